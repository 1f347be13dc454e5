"""Who is who over the frames of a video: identities, and the gaps in which somebody was not detected."""
