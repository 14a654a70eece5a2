"""How one client learns, and the Flower ``ClientApp`` around it."""

from fedrms.client.app import ClientSide, client_app
from fedrms.client.local_update import LocalUpdate, as_function
from fedrms.client.loss_moments import loss_moments
from fedrms.client.secure_sum import secure_sum_mod
from fedrms.client.settings import LocalSettings

__all__ = [
    "ClientSide",
    "LocalSettings",
    "LocalUpdate",
    "as_function",
    "client_app",
    "loss_moments",
    "secure_sum_mod",
]
