"""Train a model: ``python training/train.py CONFIG|PRESET --out RUN``. The engine is `napari_vqldm.training`."""

import sys

from napari_vqldm.training.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
