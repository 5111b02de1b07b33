"""ComfyUI. This is the only room that imports it. It checks for abilities, not for versions."""
