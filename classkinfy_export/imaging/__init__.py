"""Image operations that live inside the exported graph.

Every operation takes and returns integers below 2**24 held in float32, or 0..255 in uint8.
Additions, multiplications by integers and by powers of two, comparisons and floor are then exact
in any order, so PyTorch, ONNX Runtime and LiteRT give the same bytes on every instruction set.
Shapes are static. Colour planes lead, [c, n, h, w]; a single plane is
[n, 1, h, w], and so are a network's images, [n, c, h, w].
"""
