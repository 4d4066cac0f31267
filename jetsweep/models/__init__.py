"""Jet architectures, one file each; `create_model(name)` makes one, `list_models()` names them."""

from jetsweep.models._base import (
    MODELS,
    ModelConfig,
    build_network,
    create_model,
    list_models,
    register,
    require_packages,
)

__all__ = ["MODELS", "ModelConfig", "build_network", "create_model", "list_models", "register", "require_packages"]
