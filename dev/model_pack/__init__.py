"""ComfyUI nodes for tests, demo and bench only: models whose results can be computed by hand.

`DetailersTestModel` makes a real MODEL, CLIP and VAE of the host whose denoiser is the exact
posterior mean of a Gaussian prior; the prompt's colour words set the prior's mean. The others make
inputs, save results as arrays, and do the least work of a detailer, for comparison.
"""

from . import (
    clip_vision,
    floor,
    foreign,
    held,
    hook,
    links,
    model,
    results,
    slow_files,
    sources,
    state,
    vae,
)

NODE_CLASS_MAPPINGS = {
    "DetailersTestModel": model.DetailersTestModel,
    "DetailersTestControl": model.DetailersTestControl,
    "DetailersTestClipVision": clip_vision.DetailersTestClipVision,
    "DetailersTestModelPatch": held.DetailersTestModelPatch,
    "DetailersTestAttentionMask": held.DetailersTestAttentionMask,
    "DetailersTestMaskedControl": held.DetailersTestMaskedControl,
    "DetailersTestHalfVAE": vae.DetailersTestHalfVAE,
    "DetailersTestImage": sources.DetailersTestImage,
    "DetailersTestCast": sources.DetailersTestCast,
    "DetailersTestMask": sources.DetailersTestMask,
    "DetailersTestSegs": sources.DetailersTestSegs,
    "DetailersTestDetector": sources.DetailersTestDetector,
    "DetailersTestFrameDetector": sources.DetailersTestFrameDetector,
    "DetailersTestBrightDetector": sources.DetailersTestBrightDetector,
    "DetailersTestHook": hook.DetailersTestHook,
    "DetailersTestScheduler": links.DetailersTestScheduler,
    "DetailersTestSegsControl": links.DetailersTestSegsControl,
    "DetailersTestPreprocessor": links.DetailersTestPreprocessor,
    "DetailersTestCaller": links.DetailersTestCaller,
    "DetailersTestValue": links.DetailersTestValue,
    "DetailersTestSave": results.DetailersTestSave,
    "DetailersTestSink": results.DetailersTestSink,
    "DetailersTestForeign": foreign.DetailersTestForeign,
    "DetailersTestForeignControl": foreign.DetailersTestForeignControl,
    "DetailersTestRandomState": foreign.DetailersTestRandomState,
    "DetailersTestWhyAlone": foreign.DetailersTestWhyAlone,
    "DetailersTestState": state.DetailersTestState,
    "DetailersTestSlowFiles": slow_files.DetailersTestSlowFiles,
    "DetailersTestWait": slow_files.DetailersTestWait,
    "DetailersTestWrite": results.DetailersTestWrite,
    "DetailersTestBare": floor.DetailersTestBare,
}
