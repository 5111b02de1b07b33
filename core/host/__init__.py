"""ComfyUI: the only room that imports it. Abilities are looked for, not versions."""
