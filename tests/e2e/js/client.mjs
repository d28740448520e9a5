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
    decodeRecoveryKey,
    deriveRecoveryKeyFromPassphrase,
    VerificationPhase,
    VerifierEvent,
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
let entered;
let verification;

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

// What Element does with what a person enters: try it as a recovery key, then as a passphrase.
async function getSecretStorageKey({ keys }) {
    const [keyId, description] = Object.entries(keys)[0];
    let key;
    try {
        key = decodeRecoveryKey(entered.trim());
    } catch {
        const { salt, iterations } = description.passphrase;
        key = await deriveRecoveryKeyFromPassphrase(entered.trim(), salt, iterations);
    }
    if (!(await client.secretStorage.checkKey(key, description))) throw new Error("wrong key");
    return [keyId, key];
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
    // With a password, or with a one-use login token.
    async login({ url, user, password: given, token, isolation = "only-signed" }) {
        password = given;
        const stranger = sdk.createClient({ baseUrl: url, logger });
        const session = await stranger.loginRequest(
            token
                ? { type: "m.login.token", token }
                : {
                      type: "m.login.password",
                      identifier: { type: "m.id.user", user },
                      password,
                  },
        );
        client = sdk.createClient({
            baseUrl: url,
            logger,
            userId: session.user_id,
            deviceId: session.device_id,
            accessToken: session.access_token,
            cryptoCallbacks: { getSecretStorageKey },
        });
        await client.initRustCrypto({ useIndexedDB: false });
        await commands.setDeviceIsolation({ mode: isolation });
        await client.startClient({ initialSyncLimit: 50 });
        await until(() => client.isInitialSyncComplete(), 50_000, "first sync");
        return {
            user_id: session.user_id,
            device_id: session.device_id,
            version: client.getCrypto().getVersion(),
        };
    },

    // Makes this person's cross-signing identity and signs this device with it.
    async bootstrapCrossSigning({ timeoutMs = 50_000 }) {
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

    // `settings` joins the content of m.room.encryption, e.g. how often the key is rotated.
    async createRoom({
        encrypted = true,
        settings = {},
        invite = [],
        name,
        direct = false,
        timeoutMs = 50_000,
    }) {
        const encryption = {
            type: "m.room.encryption",
            state_key: "",
            content: { algorithm: MEGOLM, ...settings },
        };
        const { room_id: roomId } = await client.createRoom({
            preset: direct ? "trusted_private_chat" : "private_chat",
            is_direct: direct,
            invite,
            ...(name ? { name } : {}),
            initial_state: encrypted ? [encryption] : [],
        });
        await commands.waitUntilKnown({ roomId, encrypted, timeoutMs });
        // createRoom answers when everybody is invited, /sync may still be telling of its first
        // half; a message sent now would have a key for those only whom this client knows.
        await until(
            async () => {
                const { chunk } = await client.members(roomId);
                const room = client.getRoom(roomId);
                return chunk.every((member) => room.getMember(member.state_key));
            },
            timeoutMs,
            `the members of ${roomId}`,
        );
        return { room_id: roomId };
    },

    async join({ roomId, encrypted = true, timeoutMs = 50_000 }) {
        await client.joinRoom(roomId);
        return await commands.waitUntilKnown({ roomId, encrypted, timeoutMs });
    },

    // Until this client has the room, and knows of its encryption if that is expected.
    async waitUntilKnown({ roomId, encrypted = true, timeoutMs = 50_000 }) {
        await until(
            async () =>
                client.getRoom(roomId)?.getMyMembership() === "join" &&
                (!encrypted || (await client.getCrypto().isEncryptionEnabledInRoom(roomId))),
            timeoutMs,
            `the room ${roomId}`,
        );
        return {};
    },

    async waitJoined({ roomId, users, timeoutMs = 50_000 }) {
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

    // Hands over the keys of what was said before, as Element does (MSC4268).
    async invite({ roomId, user }) {
        await client.invite(roomId, user);
        return {};
    },

    // Returns when the homeserver has acknowledged it.
    async send({ roomId, text }) {
        const { event_id } = await client.sendMessage(roomId, { msgtype: "m.text", body: text });
        return { event_id };
    },

    // Makes rooms and talks in each, some of them at once. Returns event ID -> [room ID, text].
    async talk({ rooms, messages, atOnce = 5 }) {
        const sent = {};
        const waiting = [...rooms];
        const worker = async () => {
            while (waiting.length) {
                const name = waiting.shift();
                const { room_id: roomId } = await commands.createRoom({ name, timeoutMs: 50_000 });
                for (let number = 0; number < messages; number++) {
                    const text = `${name}, message ${number}`;
                    const { event_id } = await commands.send({ roomId, text });
                    sent[event_id] = [roomId, text];
                }
            }
        };
        await Promise.all(Array.from({ length: atOnce }, worker));
        return sent;
    },

    // The first readable message with this text (by this sender).
    async waitForMessage({ roomId, containing = "", sender, timeoutMs = 50_000 }) {
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

    // The next message gets a new Megolm session, whose key has to be sent to everybody.
    async discardSession({ roomId }) {
        await client.getCrypto().forceDiscardSession(roomId);
        return {};
    },

    // Verifies somebody by emoji: in a direct chat, or with one device by to-device messages.
    // The answer holds the emoji; `decideVerification` says whether they match.
    async verify({ user, roomId, device, timeoutMs = 50_000 }) {
        const crypto = client.getCrypto();
        await crypto.getUserDeviceInfo([user], true);
        const request = roomId
            ? await crypto.requestVerificationDM(user, roomId)
            : await crypto.requestDeviceVerification(user, device);
        verification = { request, sas: null, cancelled: null };
        const { Ready, Cancelled } = VerificationPhase;
        await until(
            () => [Ready, Cancelled].includes(request.phase),
            timeoutMs,
            "an answer to the verification request",
        );
        if (request.phase === Cancelled) return { cancelled: request.cancellationCode };
        const verifier = await request.startVerification("m.sas.v1");
        verifier.on(VerifierEvent.ShowSas, (sas) => (verification.sas = sas));
        verification.done = verifier.verify().catch((error) => {
            verification.cancelled = String(error?.message ?? error);
        });
        const callbacks = await until(
            () => verification.sas ?? verifier.getShowSasCallbacks(),
            timeoutMs,
            "emoji to compare",
        );
        verification.sas = callbacks;
        return { emoji: callbacks.sas.emoji, decimal: callbacks.sas.decimal };
    },

    async decideVerification({ match = true, user, timeoutMs = 50_000 }) {
        if (match) await verification.sas.confirm();
        else verification.sas.mismatch();
        await Promise.race([
            verification.done,
            new Promise((_, reject) =>
                setTimeout(() => reject(new Error("no end of the verification")), timeoutMs),
            ),
        ]);
        if (match && !verification.cancelled) {
            // The new signature comes back with the next answer to /keys/query.
            await until(
                async () => (await commands.userTrust({ user })).verified,
                timeoutMs,
                `${user} to be verified`,
            );
        }
        return {
            cancelled: verification.cancelled,
            code: verification.request.cancellationCode,
            ...(await commands.userTrust({ user })),
        };
    },

    async userTrust({ user }) {
        const status = await client.getCrypto().getUserVerificationStatus(user);
        return { verified: status.isVerified(), cross_signed: status.isCrossSigningVerified() };
    },

    // Unlocks secret storage as Element does after a login: the identity signs this device, and
    // the backup's key is there.
    async unlock({ secret, timeoutMs = 50_000 }) {
        entered = secret;
        const crypto = client.getCrypto();
        // It refuses private keys while it does not know the public ones.
        await crypto.userHasCrossSigningKeys(client.getUserId(), true);
        await crypto.bootstrapCrossSigning({});
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        const check = await crypto.checkKeyBackupAndEnable();
        const [user, device] = [client.getUserId(), client.getDeviceId()];
        await until(
            async () => (await commands.deviceTrust({ user }))[device]?.signed_by_owner,
            timeoutMs,
            "this device signed by the identity",
        );
        return {
            cross_signing: await crypto.isCrossSigningReady(),
            backup: check && {
                version: check.backupInfo.version,
                trusted: check.trustInfo.trusted,
                matches: check.trustInfo.matchesDecryptionKey,
            },
        };
    },

    async restoreKeyBackup() {
        const { total, imported } = await client.getCrypto().restoreKeyBackup();
        return { total, imported };
    },

    // Everything of a room that the homeserver lets us see, read as far as keys are there.
    async history({ roomId }) {
        const room = client.getRoom(roomId);
        while (room.oldState.paginationToken) await client.scrollback(room, 100);
        const events = room.getLiveTimeline().getEvents();
        for (const event of events) {
            await client.decryptEventIfNeeded(event);
            if (event.isDecryptionFailure()) {
                await event.attemptDecryption(client.getCrypto(), { isRetry: true });
            }
        }
        return events.map(shown);
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
