"""The shared kit of noise2pose: plain PyTorch and NumPy that knows no method, no data set and no Trainer.

Conventions, kept everywhere and converted only at the edges:

* metres and radians inside; millimetres only where a metric is reported;
* camera frame x right, y down, z forward; images RGB in [0, 1];
* rotation matrices act on column vectors; quaternions only where a file format has them, and then the order is stated;
* leading batch dimensions are arbitrary in the functions of the kit;
* shape letters: B batch, F frames, J joints, N hypotheses, M mixture components, V vertices, S samples, D dimensions.
"""
