"""The webhook dispatcher: alerts from their topic to HTTP receivers, signed by Standard Webhooks (docs/webhooks.md).

A delivery walks ``dispatcher`` (reads alerts) → ``book`` (what is to be sent, pure) → ``lane`` (one an endpoint) →
``sender`` (one attempt). ``rows`` keeps the book's changes in the topic ``deliveries``, from which a start restores it.
"""
