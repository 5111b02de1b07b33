"""Nodes for texts, conditionings, ControlNets and LoRAs."""

from . import conditioning, control, lora_schedule, wildcards

FAMILIES = (
    wildcards,
    conditioning,
    lora_schedule,
    control,
)
