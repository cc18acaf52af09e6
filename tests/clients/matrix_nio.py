"""Two users of matrix-nio chat through a server.

Arguments: the server's address, the password of @alice:localhost and @bob:localhost.
Prints a line for each thing that it saw; the last one is "done".
"""

import asyncio
import sys

from nio import (
    AsyncClient,
    AsyncClientConfig,
    JoinResponse,
    LoginResponse,
    ReactionEvent,
    RedactedEvent,
    RoomCreateResponse,
    RoomInviteResponse,
    RoomMessagesResponse,
    RoomMessageText,
    RoomRedactResponse,
    RoomSendResponse,
    RoomTypingResponse,
    TypingNoticeEvent,
    UpdateReceiptMarkerResponse,
)
from nio.events.ephemeral import ReceiptEvent

LIMIT = 20


async def login(address, name, password):
    config = AsyncClientConfig(encryption_enabled=False, max_timeouts=2)
    client = AsyncClient(address, f"@{name}:localhost", config=config)
    answer = await client.login(password, device_name="nio")
    expect(answer, LoginResponse)
    await client.sync(timeout=0, full_state=True)
    return client


def expect(answer, kind):
    assert isinstance(answer, kind), answer
    return answer


async def until(client, what, sees):
    """Syncs until `sees()` is true."""
    for _ in range(LIMIT):
        if sees():
            print(what)
            return
        await client.sync(timeout=3000)
    raise AssertionError(f"not seen: {what}")


def collect(client):
    """Remembers every timeline and ephemeral event that the client gets."""
    seen = []
    client.add_event_callback(lambda room, event: seen.append(event), object)
    client.add_ephemeral_callback(lambda room, event: seen.append(event), object)
    return seen


async def send(client, room, kind, content):
    return expect(await client.room_send(room, kind, content), RoomSendResponse).event_id


async def chat(alice, bob):
    seen = collect(bob)
    room = expect(await alice.room_create(name="Tea"), RoomCreateResponse).room_id
    expect(await alice.room_invite(room, bob.user_id), RoomInviteResponse)
    await until(bob, "invite", lambda: room in bob.invited_rooms)
    expect(await bob.join(room), JoinResponse)
    await until(bob, "join", lambda: room in bob.rooms)
    assert bob.rooms[room].name == "Tea", bob.rooms[room].name
    await until(alice, "member", lambda: room in alice.rooms and bob.user_id in alice.rooms[room].users)

    first = await send(alice, room, "m.room.message", {"msgtype": "m.text", "body": "hello"})
    await until(bob, "message", lambda: any(
        isinstance(event, RoomMessageText) and event.body == "hello" for event in seen))

    edit = {"msgtype": "m.text", "body": "* hi", "m.new_content": {"msgtype": "m.text", "body": "hi"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": first}}
    await send(alice, room, "m.room.message", edit)
    await until(bob, "edit", lambda: any(
        isinstance(event, RoomMessageText) and event.body == "* hi" for event in seen))

    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "+1"}}
    await send(bob, room, "m.reaction", reaction)
    await until(bob, "reaction", lambda: any(
        isinstance(event, ReactionEvent) and event.reacts_to == first for event in seen))

    wrong = await send(alice, room, "m.room.message", {"msgtype": "m.text", "body": "wrong"})
    expect(await alice.room_redact(room, wrong, reason="typo"), RoomRedactResponse)
    history = expect(await bob.room_messages(room, limit=50), RoomMessagesResponse).chunk
    redacted = [event for event in history if event.event_id == wrong]
    assert len(redacted) == 1 and isinstance(redacted[0], RedactedEvent), redacted
    assert any(event.event_id == first for event in history), history
    print("redaction and history")

    expect(await alice.room_typing(room, typing_state=True), RoomTypingResponse)
    await until(bob, "typing", lambda: any(
        isinstance(event, TypingNoticeEvent) and alice.user_id in event.users for event in seen))

    marker = await alice.update_receipt_marker(room, first)
    expect(marker, UpdateReceiptMarkerResponse)
    await until(bob, "receipt", lambda: any(
        isinstance(event, ReceiptEvent)
        and any(receipt.user_id == alice.user_id and receipt.event_id == first for receipt in event.receipts)
        for event in seen))


async def main():
    address, password = sys.argv[1:]
    alice = await login(address, "alice", password)
    bob = await login(address, "bob", password)
    try:
        await chat(alice, bob)
    finally:
        await alice.close()
        await bob.close()
    print("done")


asyncio.run(main())
