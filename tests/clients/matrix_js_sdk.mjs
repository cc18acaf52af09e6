// Two users of matrix-js-sdk chat through a server.
//
// Arguments: the server's address, the password of @alice:localhost and @bob:localhost.
// Prints a line for each thing that it saw; the last one is "done".

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.HEARTH_CLIENTS}/js/`);
const sdk = await import(pathToFileURL(require.resolve("matrix-js-sdk")));
const { logger } = await import(pathToFileURL(require.resolve("matrix-js-sdk/lib/logger.js")));
logger.setLevel("warn");

const [baseUrl, password] = process.argv.slice(2);
const LIMIT = 20_000;

async function start(name) {
    const guest = sdk.createClient({ baseUrl });
    const session = await guest.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: name },
        password,
    });
    const client = sdk.createClient({
        baseUrl,
        userId: session.user_id,
        accessToken: session.access_token,
        deviceId: session.device_id,
    });
    await client.startClient({ initialSyncLimit: 20, pollTimeout: 5_000 });
    await until(`${name} syncs`, () => client.getSyncState() === "SYNCING" || client.getSyncState() === "PREPARED");
    return client;
}

async function until(what, sees) {
    const end = Date.now() + LIMIT;
    while (Date.now() < end) {
        const seen = await sees();
        if (seen) {
            console.log(what);
            return seen;
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`not seen: ${what}`);
}

function assert(condition, what) {
    if (!condition) throw new Error(what);
}

async function chat(alice, bob) {
    const { room_id: roomId } = await alice.createRoom({ name: "Tea", invite: [bob.getUserId()] });
    await until("invite", () => bob.getRoom(roomId)?.getMyMembership() === "invite");
    await bob.joinRoom(roomId);
    const room = await until("join", () => bob.getRoom(roomId)?.getMyMembership() === "join" && bob.getRoom(roomId));
    await until("name", () => room.name === "Tea");
    await until("member", () => alice.getRoom(roomId)?.getMember(bob.getUserId())?.membership === "join");
    const find = (id) => room.findEventById(id);

    const { event_id: first } = await alice.sendTextMessage(roomId, "hello");
    await until("message", () => find(first)?.getContent().body === "hello");
    await alice.sendMessage(roomId, {
        msgtype: "m.text",
        body: "* hi",
        "m.new_content": { msgtype: "m.text", body: "hi" },
        "m.relates_to": { rel_type: "m.replace", event_id: first },
    });
    await until("edit", () => find(first)?.getContent().body === "hi");

    const { event_id: reaction } = await bob.sendEvent(roomId, "m.reaction", {
        "m.relates_to": { rel_type: "m.annotation", event_id: first, key: "+1" },
    });
    await until("reaction", () => alice.getRoom(roomId).relations
        .getChildEventsForEvent(first, "m.annotation", "m.reaction")?.getRelations()
        .some((event) => event.getId() === reaction));

    const { event_id: wrong } = await alice.sendTextMessage(roomId, "wrong");
    await until("second message", () => find(wrong));
    await alice.redactEvent(roomId, wrong);
    await until("redaction", () => find(wrong)?.isRedacted());

    const history = await bob.createMessagesRequest(roomId, null, 50, sdk.Direction.Backward);
    assert(history.chunk.some((event) => event.event_id === first), "the first message is not in the history");
    assert(history.chunk.some((event) => event.type === "m.room.create"), "the beginning is not in the history");
    console.log("history");

    await alice.sendTyping(roomId, true, 10_000);
    await until("typing", () => room.getMember(alice.getUserId())?.typing);
    await alice.sendReadReceipt(alice.getRoom(roomId).findEventById(reaction) ?? find(first));
    await until("receipt", () => room.getReadReceiptForUserId(alice.getUserId(), true) !== null);
}

const alice = await start("alice");
const bob = await start("bob");
await chat(alice, bob);
alice.stopClient();
bob.stopClient();
console.log("done");
process.exit(0);
