"""Small methods for the contract that every method keeps, and their losses."""

from methods.dpmesh import Codebook, DPMesh

SMALL_CODEBOOK = {"num_tokens": 4, "num_codes": 16, "code_width": 8, "encoder_width": 32, "encoder_hidden": 32}
METHODS = {
    "dpmesh_reasoning": lambda: DPMesh(
        backbone="transformer", image_size=128, pose_head="rot6d", nkr="both", teacher_epochs=1, warmup_steps=2
    ),
    "dpmesh_diffusion": lambda: DPMesh(lora_rank=4, pose_head="rot6d", warmup_steps=2),
    "dpmesh_codebook": lambda: Codebook(encoder_blocks=1, warmup_steps=2, **SMALL_CODEBOOK),
    "dpmesh_codebook_6d": lambda: Codebook(encoder_blocks=1, rotation_format="6d", joints_weight=0.0, **SMALL_CODEBOOK),
}  # fmt: skip
# Training loss of each step of two epochs: a refactoring must leave them as they are. Reset only with a reason.
GOLDEN = {
    "dpmesh_reasoning": [3.36027, 3.39964, 3.49486, 6.20541, 5.79738, 5.5359],
    "dpmesh_diffusion": [3.27949, 3.30324, 3.42604, 3.47493, 3.19304, 3.06721],
    "dpmesh_codebook": [0.58589, 0.52287, 0.45535, 0.41367, 0.38101, 0.35679],
    "dpmesh_codebook_6d": [0.36463, 0.33756, 0.29059, 0.23861, 0.20203, 0.17978],
}
