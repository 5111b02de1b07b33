"""How a detailer is set so that the miniature brings heads nearest to the truth."""

SETTINGS = {
    "guide_size": 256, "guide_size_for": False, "max_size": 512, "steps": 8, "cfg": 2.0,
    "sampler_name": "euler", "scheduler": "normal", "denoise": 0.2,
}  # fmt: skip
CROP_FACTOR = 2.0
