"""Motion in BVH files, from whatever publisher: well-known skeletons are recognised, others come with a joint map."""

SUMMARY = "folders of BVH motion: CMU, Mixamo, LAFAN1, Bandai-Namco, 100STYLE, Rokoko, or with a joint map"
PAGE = "https://research.cs.wisc.edu/graphics/Courses/cs-838-1999/Jeff/BVH.html"
SOURCE = "ZIP_OR_FOLDER..."
