"""How training data reaches the method: images read and cropped by workers, and order that survives resuming."""
