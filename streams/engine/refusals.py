"""Why a worker refuses to go on, in words for the person who has to act: what happened, what was kept, what to do."""


def source_lost(topic: str, partition: int, wanted: int, start: int, end: int) -> str:
    """The state asks for an input offset that the log does not have."""
    if wanted > end:
        return (
            f"{topic} partition {partition}: everything before offset {wanted} is applied, but the topic ends "
            f"at {end}. The topic was deleted and made anew, or the broker lost its end. Nothing was changed. Restore "
            "the topic, or start a new generation of topics (another SLUICEGATE_TOPIC_PREFIX) with an empty state."
        )
    return (
        f"{topic} partition {partition}: the state wants offset {wanted} next, but the topic begins at {start}: "
        f"{start - wanted} offsets were removed by retention before they were counted. Nothing was changed. Restore "
        "them from a backup; or, if they are given up, start the worker once with SLUICEGATE_ACCEPT_LOST_SOURCE=1 and "
        "correct the accounts by hand."
    )


def state_damaged(partition: int, damage: str) -> str:
    """The state log does not fold to what its header says."""
    return (
        f"state partition {partition} is damaged: {damage}. Nothing was changed. Likely causes: records were written "
        "or removed by something else than a worker, or compaction ran before min.compaction.lag.ms was over. If the "
        "usage and accounts topics still reach back far enough, start a new generation of state (another "
        "SLUICEGATE_TOPIC_PREFIX with both copied) and let it be counted anew; else restore the topic from a backup."
    )


def unknown_row(partition: int, key: bytes, detail: str) -> str:
    """The state holds a row that this release cannot read."""
    return (
        f"state partition {partition} holds the row {key!r}, which this release cannot read ({detail}). "
        "A newer release wrote it. Nothing was changed. Start that release or a newer one."
    )


def batch_too_large(partition: int, size_bytes: int, max_bytes: int) -> str:
    """A flush does not fit into one record batch, and must not be torn."""
    return (
        f"state partition {partition}: one flush has {size_bytes} bytes, more than the {max_bytes} that fit into a "
        "record batch, and it must not be torn. The state stands at the flush before. Raise SLUICEGATE_BATCH_BYTES_MAX "
        "together with max.message.bytes of the state topic and socket.request.max.bytes of the broker, or lower "
        "SLUICEGATE_ROWS_MAX."
    )


def counted_wrongly(partition: int, detail: str) -> str:
    """The machine broke its contract or raised."""
    return (
        f"usage partition {partition} cannot be counted: {detail}. The state stands at the last flush, and "
        "nothing after it was lost: it is read again at the next start. This is a defect of the release; go back to "
        "the last one, and report it with this text."
    )
