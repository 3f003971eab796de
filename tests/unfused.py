"""Official fairseq 0.12.2 without the fused path of its encoders, which current PyTorch refuses.

Imported where tests let fairseq build a model by itself; other versions have no such path. The
package switches the path off in the models that it builds (``fairseq_pdd/_compat.py``).
"""

from typing import Any

from torch.nn.modules.module import register_module_module_registration_hook


def _switch_off(module: Any, name: str, layer: Any) -> None:
    if hasattr(layer, "can_use_fastpath"):
        layer.can_use_fastpath = False


register_module_module_registration_hook(_switch_off)
