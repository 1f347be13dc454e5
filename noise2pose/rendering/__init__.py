"""Pictures of skeletons, meshes and people."""
