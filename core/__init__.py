"""What happens: functions on tensors and small types. Only `host` knows ComfyUI."""
