"""Write again what shipped checkpoints hold for plain transformers: python dev/ship.py

After each change of `runs/custom_generate.py` or `runs/export.py`; a test says so. Weights,
tokenizer and latentcot.json stay as their run wrote them.
"""

import json

from latentcot.runs.checkpoint import load_checkpoint
from latentcot.runs.checkpoint_folders import (
    CHECKSUMS_FILE,
    SHIPPED,
    STATE_FILE,
    write_checksums,
)
from latentcot.runs.export import write_export
from latentcot.utils.files import write_json

for folder in sorted(path for path in SHIPPED.iterdir() if path.is_dir()):
    found = load_checkpoint(folder)
    sums = json.loads((folder / CHECKSUMS_FILE).read_text())["sha256"]
    write_export(folder, found.model, found.tokenizer, found.info)
    (folder / CHECKSUMS_FILE).unlink()
    write_checksums(folder)
    now = json.loads((folder / CHECKSUMS_FILE).read_text())["sha256"]
    # The run's state is not shipped; provenance.json was put beside its checkpoint later.
    kept = {name: now[name] for name in now if name != "provenance.json"}
    write_json(folder / CHECKSUMS_FILE, {"sha256": {**kept, STATE_FILE: sums[STATE_FILE]}})
    print(f"{folder}: written")
