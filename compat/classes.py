"""The node classes by the names that they have in ComfyUI-Impact-Pack's modules."""

from __future__ import annotations

from typing import Any

# Modules of classes. Who asks one for a class that is in another one there gets it all the same.
MODULES = (
    "animatediff_nodes", "bridge_nodes", "detectors", "hf_nodes", "hook_nodes", "impact_pack",
    "legacy_nodes", "logics", "lora_nodes", "pipe", "segs_nodes", "segs_upscaler", "subpack_nodes",
    "util_nodes",
)  # fmt: skip
# Classes that are named other than the ids of their nodes.
_IDS = {
    "AssembleSEGS": "ImpactAssembleSEGS",
    "BboxDetectorCombined": "BboxDetectorCombined_v2",
    "BboxDetectorForEach": "BboxDetectorSEGS",
    "CombineConditionings": "ImpactCombineConditionings",
    "ConcatConditionings": "ImpactConcatConditionings",
    "ControlNetApplySEGS": "ImpactControlNetApplySEGS",
    "DecomposeSEGS": "ImpactDecomposeSEGS",
    "DefaultImageForSEGS": "SetDefaultImageForSEGS",
    "DetailerForEachTest": "DetailerForEachDebug",
    "DetailerForEachTestPipe": "DetailerForEachDebugPipe",
    "DilateMask": "ImpactDilateMask",
    "DilateMaskInSEGS": "ImpactDilateMaskInSEGS",
    "Dilate_SEG_ELT": "ImpactDilate_Mask_SEG_ELT",
    "Edit_SEG_ELT": "ImpactEdit_SEG_ELT",
    "EmptySEGS": "EmptySegs",
    "From_SEG_ELT": "ImpactFrom_SEG_ELT",
    "FromDetailerPipe_SDXL": "FromDetailerPipeSDXL",
    "GaussianBlurMask": "ImpactGaussianBlurMask",
    "GaussianBlurMaskInSEGS": "ImpactGaussianBlurMaskInSEGS",
    "GeneralInversedSwitch": "ImpactInversedSwitch",
    "GeneralSwitch": "ImpactSwitch",
    "HF_TransformersClassifierProvider": "ImpactHFTransformersClassifierProvider",
    "ImageBatchToImageList": "ImpactImageBatchToImageList",
    "ImpactNotEmptySEGS": "ImpactIsNotEmptySEGS",
    "KSamplerAdvancedBasicPipe": "ImpactKSamplerAdvancedBasicPipe",
    "KSamplerBasicPipe": "ImpactKSamplerBasicPipe",
    "MakeImageBatch": "ImpactMakeImageBatch",
    "MakeImageList": "ImpactMakeImageList",
    "MakeTileSEGS": "ImpactMakeTileSEGS",
    "SEGSConcat": "ImpactSEGSConcat",
    "SEGSLabelFilter": "ImpactSEGSLabelFilter",
    "SEGSMerge": "ImpactSEGSMerge",
    "SEGSOrderedFilter": "ImpactSEGSOrderedFilter",
    "SEGSPicker": "ImpactSEGSPicker",
    "SEGSRangeFilter": "ImpactSEGSRangeFilter",
    "SEGSToMaskBatch": "ImpactSEGSToMaskBatch",
    "SEGSToMaskList": "ImpactSEGSToMaskList",
    "SEGS_Classify": "ImpactSEGSClassify",
    "SEG_ELT_BBOX_ScaleBy": "ImpactScaleBy_BBOX_SEG_ELT",
    "SegmDetectorCombined": "SegmDetectorCombined_v2",
    "SegmDetectorForEach": "SegmDetectorSEGS",
    "SegsBitwiseAndMask": "ImpactSegsAndMask",
    "SegsBitwiseAndMaskForEach": "ImpactSegsAndMaskForEach",
    "SimpleDetectorForAnimateDiff": "ImpactSimpleDetectorSEGS_for_AD",
    "SimpleDetectorForEach": "ImpactSimpleDetectorSEGS",
    "SimpleDetectorForEachPipe": "ImpactSimpleDetectorSEGSPipe",
    "StringSelector": "ImpactStringSelector",
}


class Classes:
    """All of the node classes, as attributes."""

    def __init__(self) -> None:
        from ..nodes import NODE_CLASSES

        self._nodes = NODE_CLASSES
        ids = {**_IDS, **{node_id: node_id for node_id in NODE_CLASSES}}
        self._ids = {name: node_id for name, node_id in ids.items() if node_id in NODE_CLASSES}
        self.__all__ = sorted([*self._ids, "NODE_CLASS_MAPPINGS"])

    def __getattr__(self, name: str) -> Any:
        if name == "NODE_CLASS_MAPPINGS":
            return dict(self._nodes)
        if name.startswith("_") or name not in self._ids:
            raise AttributeError(name)
        return self._nodes[self._ids[name]]
