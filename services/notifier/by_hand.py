"""What people do about a delivery: try it again, or have it not told."""

from services.notifier.store import Due, NotifierStore
from shared.errors import InvalidInputError
from shared.events.notices import ChannelMode, DeliveryState

RETRIED = (DeliveryState.FAILED, DeliveryState.UNKNOWN, DeliveryState.SUPPRESSED, DeliveryState.PENDING)


class UnknownDeliveryError(InvalidInputError):
    """There is no such delivery."""


class WrongStateError(InvalidInputError):
    """The delivery is in a state that does not allow it."""


async def retry(store: NotifierStore, delivery_id: int, *, by: str, send_again: bool = False) -> None:
    """Try a delivery again, now, in the mode that its channel has today.

    Parameters
    ----------
    send_again
        Also what may have arrived: it can be told twice.

    Raises
    ------
    UnknownDeliveryError, WrongStateError
        There is nothing to try again.
    """
    due = await _found(store, delivery_id)
    state = DeliveryState(due.row["state"])
    if state not in RETRIED:
        raise WrongStateError("delivery", delivery_id, f"one that is not {state}")
    if state is DeliveryState.UNKNOWN and not send_again:
        raise WrongStateError("delivery", delivery_id, "send-again beside it, for it may have arrived")
    await store.put(due, DeliveryState.PENDING, reason=f"tried again by {by}", retry_s=0.0, mode=ChannelMode.UNKNOWN)
    store.wake(due.row["channel"])


async def suppress(store: NotifierStore, delivery_id: int, *, by: str, reason: str = "") -> None:
    """Do not tell what waits.

    Raises
    ------
    UnknownDeliveryError, WrongStateError
        It does not wait.
    """
    due = await _found(store, delivery_id)
    if due.row["state"] != DeliveryState.PENDING:
        raise WrongStateError("delivery", delivery_id, f"one that waits, and it is {due.row['state']}")
    told = f"suppressed by {by}" + (f": {reason}" if reason else "")
    await store.put(due, DeliveryState.SUPPRESSED, reason=told)
    store.wake(due.row["channel"])


async def _found(store: NotifierStore, delivery_id: int) -> Due:
    due = await store.by_id(delivery_id)
    if due is None:
        raise UnknownDeliveryError("delivery", delivery_id, "one that there is; see `tocsin notices list`")
    return due
