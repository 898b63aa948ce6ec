"""What tests under DeepSpeed and FSDP share: settings that cut everything, and parameters put together again."""

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

import toy


def deepspeed_config(stage, **options):
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        # Small buckets and shards that cut parameters; nothing is kept whole.
        "zero_optimization": {
            "stage": stage,
            "reduce_bucket_size": 4096,
            "stage3_param_persistence_threshold": 0,
            **options,
        },
    }


def allow_fsdp_on_cpu():
    """accelerate enables FSDP on accelerator devices only; everything after that decision is its own code."""
    initialize = AcceleratorState.__init__

    def enabled(self, *args, fsdp_plugin=None, **kwargs):
        known = "_mixed_precision" in AcceleratorState._shared_state
        initialize(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and not known:
            # Every new AcceleratorState takes the type over from PartialState.
            self.distributed_type = PartialState().distributed_type = DistributedType.FSDP
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = enabled


def whole_parameters(trainer):
    """Every parameter, put together where processes hold parts."""
    parameters = list(trainer.model.parameters())
    if any(isinstance(parameter, DTensor) for parameter in parameters):
        whole = {
            name: p.full_tensor() if isinstance(p, DTensor) else p for name, p in trainer.model.named_parameters()
        }
        return {name: parameter.detach().clone() for name, parameter in whole.items()}
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        return toy.parameters(trainer)
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters):
        return toy.parameters(trainer)
