"""A policy whose first look at hidden states is a matrix, so that a device can take it before anything is copied.

Thousands of hidden numbers meet the late network's first layer, which is a megabyte that no cache of the host's holds
in the middle of a call. On a GPU the product is one small kernel, and a few numbers come to the host. No torch.
"""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.control.network import Network
from laptime.control.policies.grpo import GrpoPolicy
from laptime.control.policies.policy import Policy
from laptime.control.policies.supervised import SupervisedPolicy
from laptime.control.seen import Floats


def projected(policy: Policy) -> tuple[Floats, Policy] | None:
    """(hidden, k) to multiply hidden states by, and the policy that decides the same from the k products.

    None for a policy that looks at no hidden states, or at no more of them than its layer is wide.
    """
    if not isinstance(policy, GrpoPolicy | SupervisedPolicy) or not policy.needs.hidden:
        return None
    late, width = policy.late, policy.late.weights[0].shape[1]
    if policy.hidden <= width:
        return None
    rest = len(late.centre) - policy.hidden  # hidden states come last (policies.inputs)
    matrix = np.ascontiguousarray(late.weights[0][rest:])
    network = Network(
        np.concatenate([late.centre[:rest], late.centre[rest:] @ matrix]),
        (np.concatenate([late.weights[0][:rest], np.eye(width, dtype=np.float32)]), *late.weights[1:]),
        late.biases,
    )
    return matrix, msgspec.structs.replace(policy, late=network, hidden=width)
