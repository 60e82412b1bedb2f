"""Image operations that live inside the exported graph.

Every operation takes and returns float32 tensors that hold integers below 2**24, or booleans.
Additions, multiplications by integers and by powers of two, comparisons and floor are then exact
in any order, so PyTorch, ONNX Runtime and LiteRT give the same bytes on every instruction set.
Shapes are static. Colour planes lead, [c, n, h, w]; a single plane is [n, 1, h, w].
"""
