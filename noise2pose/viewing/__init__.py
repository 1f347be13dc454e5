"""Predicted people to look at: a scene of them, the scene as one web page, and the scene in a live viewer."""
