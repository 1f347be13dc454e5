"""A trained method used on files: keypoints lifted, people in images annotated."""
