"""Motion without images: synthetic activities, clips and their windows, and the virtual cameras that look at them."""
