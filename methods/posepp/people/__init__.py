"""Who is in an image: bodies, cameras and texts drawn for every sample, and the maps that the generator follows."""
