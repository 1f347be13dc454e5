"""2-D joints of people in images: who is there, and where their joints are."""
