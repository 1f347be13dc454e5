"""Rendered people: poses, clothes, backgrounds and scenes, and the cache on disk that holds their images."""
