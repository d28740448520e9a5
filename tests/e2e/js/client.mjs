// A headless Matrix client with Rust cryptography (WebAssembly), for tests.
//
// One JSON object a line: in {"id", "command", ...arguments}, out {"id", "result"} or
// {"id", "error"}. Everything it keeps is in memory; it is one device of one person.

import { createInterface } from "node:readline";

import { logger } from "matrix-js-sdk/lib/logger.js";
import * as sdk from "matrix-js-sdk";
import {
    AllDevicesIsolationMode,
    OnlySignedDevicesIsolationMode,
} from "matrix-js-sdk/lib/crypto-api/index.js";

const POLL_MS = 50;
const MEGOLM = "m.megolm.v1.aes-sha2";
const ISOLATION = {
    "only-signed": () => new OnlySignedDevicesIsolationMode(),
    all: () => new AllDevicesIsolationMode(false),
};

// matrix-js-sdk wants node 22; this is all that it misses in node 20.
Promise.withResolvers ??= function () {
    const parts = {};
    parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
    return parts;
};

// Standard output carries answers only.
for (const level of ["log", "info", "debug", "warn", "trace"]) {
    console[level] = (...words) => console.error(...words);
}
logger.setLevel("warn", false);

let client;
let password;

async function until(condition, timeoutMs, what) {
    const end = Date.now() + timeoutMs;
    for (;;) {
        const value = await condition();
        if (value) return value;
        if (Date.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
        await new Promise((wake) => setTimeout(wake, POLL_MS));
    }
}

// User-interactive authentication with the password (specification, "User-Interactive
// Authentication API"): the first try says which session to answer in.
async function withPassword(makeRequest) {
    try {
        return await makeRequest(null);
    } catch (error) {
        if (error.httpStatus !== 401) throw error;
        return await makeRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user: client.getUserId() },
            password,
            session: error.data.session,
        });
    }
}

function shown(event) {
    return {
        event_id: event.getId(),
        sender: event.getSender(),
        type: event.getType(),
        content: event.getContent(),
        encrypted: event.isEncrypted(),
        failed: event.isDecryptionFailure(),
        reason: event.decryptionFailureReason ?? null,
    };
}

function timelineOf(roomId) {
    return client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? [];
}

const commands = {
    async login({ url, user, password: given, isolation = "only-signed" }) {
        password = given;
        const stranger = sdk.createClient({ baseUrl: url, logger });
        const session = await stranger.loginRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user },
            password,
        });
        client = sdk.createClient({
            baseUrl: url,
            logger,
            userId: session.user_id,
            deviceId: session.device_id,
            accessToken: session.access_token,
        });
        await client.initRustCrypto({ useIndexedDB: false });
        await commands.setDeviceIsolation({ mode: isolation });
        await client.startClient({ initialSyncLimit: 50 });
        await until(() => client.isInitialSyncComplete(), 30_000, "first sync");
        return {
            user_id: session.user_id,
            device_id: session.device_id,
            version: client.getCrypto().getVersion(),
        };
    },

    // Makes this person's cross-signing identity and signs this device with it.
    async bootstrapCrossSigning({ timeoutMs = 15_000 }) {
        const crypto = client.getCrypto();
        await crypto.bootstrapCrossSigning({
            setupNewCrossSigning: true,
            authUploadDeviceSigningKeys: withPassword,
        });
        // Ask the server, not this client: Synapse tells a person who is in no room nothing
        // of their own new keys until the long poll ends.
        const [user, device] = [client.getUserId(), client.getDeviceId()];
        await until(
            async () => {
                const known = await client.downloadKeysForUsers([user]);
                const signing = Object.keys(known.self_signing_keys?.[user]?.keys ?? {})[0];
                return known.device_keys[user]?.[device]?.signatures?.[user]?.[signing];
            },
            timeoutMs,
            "a cross-signed device of one's own",
        );
        return {};
    },

    async setDeviceIsolation({ mode }) {
        client.getCrypto().setDeviceIsolationMode(ISOLATION[mode]());
        return {};
    },

    async createRoom({ encrypted = true, invite = [], name, direct = false, timeoutMs = 15_000 }) {
        const encryption = {
            type: "m.room.encryption",
            state_key: "",
            content: { algorithm: MEGOLM },
        };
        const { room_id: roomId } = await client.createRoom({
            preset: direct ? "trusted_private_chat" : "private_chat",
            is_direct: direct,
            invite,
            ...(name ? { name } : {}),
            initial_state: encrypted ? [encryption] : [],
        });
        await commands.waitUntilKnown({ roomId, encrypted, timeoutMs });
        return { room_id: roomId };
    },

    async join({ roomId, encrypted = true, timeoutMs = 15_000 }) {
        await client.joinRoom(roomId);
        return await commands.waitUntilKnown({ roomId, encrypted, timeoutMs });
    },

    // Until this client has the room, and knows of its encryption if that is expected.
    async waitUntilKnown({ roomId, encrypted = true, timeoutMs = 15_000 }) {
        await until(
            async () =>
                client.getRoom(roomId)?.getMyMembership() === "join" &&
                (!encrypted || (await client.getCrypto().isEncryptionEnabledInRoom(roomId))),
            timeoutMs,
            `the room ${roomId}`,
        );
        return {};
    },

    async waitJoined({ roomId, users, timeoutMs = 15_000 }) {
        await until(
            () => {
                const room = client.getRoom(roomId);
                return users.every((user) => room?.getMember(user)?.membership === "join");
            },
            timeoutMs,
            `${users} in ${roomId}`,
        );
        return {};
    },

    // Returns when the homeserver has acknowledged it.
    async send({ roomId, text }) {
        const { event_id } = await client.sendMessage(roomId, { msgtype: "m.text", body: text });
        return { event_id };
    },

    // The first readable message with this text (by this sender).
    async waitForMessage({ roomId, containing = "", sender, timeoutMs = 15_000 }) {
        const event = await until(
            () =>
                timelineOf(roomId).find(
                    (each) =>
                        each.getType() === "m.room.message" &&
                        !each.isDecryptionFailure() &&
                        (each.getContent().body ?? "").includes(containing) &&
                        (!sender || each.getSender() === sender),
                ),
            timeoutMs,
            `a message with "${containing}" in ${roomId}`,
        );
        return shown(event);
    },

    async timeline({ roomId }) {
        return timelineOf(roomId).map(shown);
    },

    // What is known of another person's devices, as MSC4153 asks it.
    async deviceTrust({ user }) {
        const crypto = client.getCrypto();
        const devices = (await crypto.getUserDeviceInfo([user], true)).get(user) ?? new Map();
        const trust = {};
        for (const device of devices.keys()) {
            const status = await crypto.getDeviceVerificationStatus(user, device);
            trust[device] = { signed_by_owner: status?.signedByOwner ?? false };
        }
        return trust;
    },

    async stop() {
        client?.stopClient();
        setImmediate(() => process.exit(0));
        return {};
    },
};

async function answer(line) {
    const { id, command, ...rest } = JSON.parse(line);
    let reply;
    try {
        if (!Object.hasOwn(commands, command)) throw new Error(`no command ${command}`);
        reply = { id, result: await commands[command](rest) };
    } catch (error) {
        reply = { id, error: String(error?.message ?? error) };
        console.error(error);
    }
    process.stdout.write(`${JSON.stringify(reply)}\n`);
}

createInterface({ input: process.stdin }).on("line", answer).on("close", () => process.exit(0));
