"""A checkpoint's network for images of another size: what it costs there, not how well it does.

    python benchmarks/at_size.py checkpoints/b_family/classifier.safetensors 300 at_300.safetensors

Convolutions take any size, so the shipped B3 and B2, trained at 160, can be timed at the origin
project's 300 and 224. What they answer there is nothing that they were trained for.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from classkinfy_export.stages import checkpoint


def main() -> None:
    """Write the checkpoint."""
    source, size, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    loaded = checkpoint.load(source)
    assert loaded.info.network is not None, f"{source} holds no network"
    network = loaded.info.network.model_copy(update={"input_size": size})
    info = loaded.info.model_copy(update={"network": network})
    out.write_bytes(checkpoint.to_bytes(replace(loaded, info=info)))


if __name__ == "__main__":
    main()
