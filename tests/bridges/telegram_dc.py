"""A small Telegram data centre: as much of MTProto 2 as mautrix-telegram needs to log in and talk.

Runs in the bridge's own environment, with Telethon's types::

    python telegram_dc.py PORT CONTROL_PORT PRIVATE_KEY.pem

One person (“alice_tg”) can log in by a code, with a password where she set one, one bot by its
token; both may write to carol, and into groups. What the tests do (scan the code, set a password,
let carol write) comes as lines of JSON on the control port.

Source: https://core.telegram.org/mtproto ("Mobile Protocol"), "Creating an Authorization Key",
"TCP transport" (full), "QR code login".
"""

import asyncio
import contextlib
import json
import os
import struct
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha1, sha256
from pathlib import Path
from zlib import crc32

import rsa
from telegram_groups import CYCLISTS, MEMBERS, get_chats, get_dialogs, get_full_chat, group, said_in
from telegram_password import Password
from telegram_things import BOT, CAROL, ME, made, now, person, user
from telethon import helpers
from telethon.crypto import AES, AuthKey
from telethon.crypto.rsa import _compute_fingerprint, get_byte_array
from telethon.extensions import BinaryReader
from telethon.tl import TLObject, functions, types
from telethon.tl.core import GzipPacked, MessageContainer

# RFC 3526, group 14.
PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404"
    "DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406"
    "B7EDEE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD"
    "24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E46"
    "2E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D226"
    "1898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
P, Q = 1229739323, 1402015859
BOT_TOKEN = "2002:fake-bot-token"  # noqa: S105  # of nobody
RPC_RESULT, RPC_ERROR, VECTOR, TRUE = 0xF35C6D01, 0x2144CA19, 0x1CB5C415, 0x997275B5
TOKEN_SECONDS = 600
NUDGE_SECONDS = 0.5


@dataclass
class World:
    """What the data centre knows."""

    private_key: rsa.PrivateKey
    keys: dict = field(default_factory=dict)
    logged_in: dict = field(default_factory=dict)
    scanned: set = field(default_factory=set)
    asked_again: set = field(default_factory=set)
    waiting: set = field(default_factory=set)
    connections: list = field(default_factory=list)
    sent: list = field(default_factory=list)
    sent_to: list = field(default_factory=list)
    joined: set = field(default_factory=set)
    password: Password = None
    pts: dict = field(default_factory=dict)
    message_id: int = 100


    def pts_of(self, who):
        """Return how many updates an account has had; each has a count of its own."""
        return self.pts.get(who, 1)

    def next_pts(self, who):
        self.pts[who] = self.pts_of(who) + 1
        return self.pts[who]


@dataclass
class Connection:
    """One TCP connection of a client."""

    world: World
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    out: int = 0
    key: AuthKey = None
    session: int = 0
    salt: int = 0
    sequence: int = 0
    last_id: int = 0
    handshake: dict = field(default_factory=dict)

    async def serve(self):
        try:
            while True:
                size, _ = struct.unpack("<ii", await self.reader.readexactly(8))
                body = (await self.reader.readexactly(size - 8))[:-4]
                await self.packet(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if self in self.world.connections:
                self.world.connections.remove(self)

    async def packet(self, body):
        if body[:8] == bytes(8):
            await self.plain(BinaryReader(body[20:]).tgread_object())
            return
        key_id = struct.unpack("<Q", body[:8])[0]
        self.key = self.world.keys[key_id]
        msg_key = body[8:24]
        data = AES.decrypt_ige(body[24:], *calc_key(self.key.key, msg_key, 0))
        reader = BinaryReader(data)
        self.salt, self.session = reader.read_long(), reader.read_long()
        if self not in self.world.connections:
            self.world.connections.append(self)
        msg_id = reader.read_long()
        reader.read_int(), reader.read_int()
        await self.message(msg_id, reader.tgread_object())

    async def plain(self, request):
        if isinstance(request, functions.ReqPqMultiRequest):
            server_nonce = int.from_bytes(os.urandom(16), "little", signed=True)
            self.handshake = {"nonce": request.nonce, "server_nonce": server_nonce}
            public = rsa.PublicKey(self.world.private_key.n, self.world.private_key.e)
            answer = types.ResPQ(
                nonce=request.nonce,
                server_nonce=server_nonce,
                pq=get_byte_array(P * Q),
                server_public_key_fingerprints=[_compute_fingerprint(public)],
            )
        elif isinstance(request, functions.ReqDHParamsRequest):
            answer = self.dh_params(request)
        else:
            answer = self.dh_done(request)
        data = bytes(answer)
        await self.write(struct.pack("<qqi", 0, self.next_id(), len(data)) + data)

    def dh_params(self, request):
        key = self.world.private_key
        number = rsa.core.decrypt_int(int.from_bytes(request.encrypted_data, "big"), key.d, key.n)
        inner = BinaryReader(number.to_bytes(255, "big")[20:]).tgread_object()
        aes_key, iv = helpers.generate_key_data_from_nonce(inner.server_nonce, inner.new_nonce)
        secret = int.from_bytes(os.urandom(256), "big") % PRIME
        data = bytes(
            types.ServerDHInnerData(
                nonce=request.nonce,
                server_nonce=request.server_nonce,
                g=2,
                dh_prime=get_byte_array(PRIME),
                g_a=get_byte_array(pow(2, secret, PRIME)),
                server_time=int(time.time()),
            )
        )
        data = sha1(data).digest() + data
        data += os.urandom(-len(data) % 16)
        self.handshake |= {"new_nonce": inner.new_nonce, "key": aes_key, "iv": iv, "a": secret}
        return types.ServerDHParamsOk(
            nonce=request.nonce,
            server_nonce=request.server_nonce,
            encrypted_answer=AES.encrypt_ige(data, aes_key, iv),
        )

    def dh_done(self, request):
        shake = self.handshake
        data = AES.decrypt_ige(request.encrypted_data, shake["key"], shake["iv"])
        inner = BinaryReader(data[20:]).tgread_object()
        shared = pow(int.from_bytes(inner.g_b, "big"), shake["a"], PRIME)
        key = AuthKey(shared.to_bytes(256, "big"))
        self.world.keys[key.key_id] = key
        return types.DhGenOk(
            nonce=request.nonce,
            server_nonce=request.server_nonce,
            new_nonce_hash1=key.calc_new_nonce_hash(shake["new_nonce"], 1),
        )

    async def message(self, msg_id, request):
        if isinstance(request, MessageContainer):
            for one in request.messages:
                await self.message(one.msg_id, one.obj)
            return
        if isinstance(request, GzipPacked):
            request = BinaryReader(request.data).tgread_object()
        while hasattr(request, "query") and not isinstance(request.query, str):
            request = request.query
        if isinstance(request, types.MsgsAck):
            return
        if isinstance(request, functions.PingDelayDisconnectRequest | functions.PingRequest):
            await self.send(bytes(types.Pong(msg_id, request.ping_id)))
            return
        answer = self.answer(request)
        await self.send(struct.pack("<Iq", RPC_RESULT, msg_id) + answer)

    def answer(self, request):
        handler = ANSWERS.get(type(request).__name__)
        who = self.world.logged_in.get(self.key.key_id)
        if handler is None:
            print("unanswered:", type(request).__name__, flush=True)  # noqa: T201  # the log
            return error(400, "METHOD_INVALID")
        found = handler(self, request, who)
        if isinstance(found, list):
            return struct.pack("<Ii", VECTOR, len(found)) + b"".join(bytes(each) for each in found)
        return found if isinstance(found, bytes) else bytes(found)

    async def push(self, update, *people, chats=()):
        await self.send(
            bytes(
                types.Updates(
                    updates=[update], users=list(people), chats=list(chats), date=now(), seq=0
                )
            )
        )

    async def send(self, data):
        message = struct.pack("<qii", self.next_id(), self.sequence * 2 + 1, len(data)) + data
        self.sequence += 1
        plain = struct.pack("<qq", self.salt, self.session) + message
        plain += os.urandom(-(len(plain) + 12) % 16 + 12)
        msg_key = sha256(self.key.key[96:128] + plain).digest()[8:24]
        cipher = AES.encrypt_ige(plain, *calc_key(self.key.key, msg_key, 8))
        await self.write(struct.pack("<Q", self.key.key_id) + msg_key + cipher)

    async def write(self, data):
        packet = struct.pack("<ii", len(data) + 12, self.out) + data
        self.out += 1
        self.writer.write(packet + struct.pack("<I", crc32(packet)))
        await self.writer.drain()

    def next_id(self):
        self.last_id = max(self.last_id + 4, int(time.time() * 2**32) // 4 * 4)
        return self.last_id | 1


def calc_key(key, msg_key, x):
    a = sha256(msg_key + key[x : x + 36]).digest()
    b = sha256(key[x + 40 : x + 76] + msg_key).digest()
    return a[:8] + b[8:24] + a[24:32], b[:8] + a[8:24] + b[24:32]


def error(code, text):
    return struct.pack("<Ii", RPC_ERROR, code) + TLObject.serialize_bytes(text)


def config(connection, request, who):
    option = made(types.DcOption, id=2, ip_address="127.0.0.1", port=1)
    return made(types.Config, this_dc=2, dc_options=[option], expires=now() + timedelta(days=1))


def export_token(connection, request, who):
    key_id = connection.key.key_id
    if key_id in connection.world.scanned:
        connection.world.asked_again.add(key_id)
        if connection.world.password is not None:
            return error(401, "SESSION_PASSWORD_NEEDED")
        connection.world.logged_in[key_id] = ME
        authorization = made(types.auth.Authorization, user=user(ME, "alice_tg", me=True))
        return types.auth.LoginTokenSuccess(authorization=authorization)
    connection.world.waiting.add(key_id)
    expires = now() + timedelta(seconds=TOKEN_SECONDS)
    return types.auth.LoginToken(expires=expires, token=b"a-token-of-the-tests")


def get_password(connection, request, who):
    return connection.world.password.asked()


def check_password(connection, request, who):
    key_id = connection.key.key_id
    if key_id not in connection.world.scanned:
        return error(401, "AUTH_KEY_UNREGISTERED")
    if not connection.world.password.is_proven_by(request.password):
        return error(400, "PASSWORD_HASH_INVALID")
    connection.world.logged_in[key_id] = ME
    return made(types.auth.Authorization, user=user(ME, "alice_tg", me=True))


def get_users(connection, request, who):
    if who is None:
        return error(401, "AUTH_KEY_UNREGISTERED")
    people = []
    for one in request.id:
        number = who if isinstance(one, types.InputUserSelf) else getattr(one, "user_id", who)
        people.append(person(number, who))
    return people


def full_user(connection, request, who):
    number = getattr(request.id, "user_id", who)
    settings = made(types.PeerSettings)
    notify = made(types.PeerNotifySettings)
    full = made(types.UserFull, id=number, settings=settings, notify_settings=notify)
    return types.users.UserFull(full_user=full, chats=[], users=[person(number, who)])


def bot_login(connection, request, who):
    if request.bot_auth_token != BOT_TOKEN:
        return error(400, "ACCESS_TOKEN_INVALID")
    connection.world.logged_in[connection.key.key_id] = BOT
    return made(types.auth.Authorization, user=user(BOT, "relay_bot", me=True, bot=True))


def resolve(connection, request, who):
    if request.username.lower() != "carol":
        return error(400, "USERNAME_NOT_OCCUPIED")
    return types.contacts.ResolvedPeer(
        peer=types.PeerUser(CAROL), chats=[], users=[person(CAROL, who)]
    )


def send_message(connection, request, who):
    world = connection.world
    world.sent.append(request.message)
    where = getattr(request.peer, "chat_id", None) or getattr(request.peer, "user_id", None)
    world.sent_to.append([who, where, request.message])
    world.message_id += 1
    return made(
        types.UpdateShortSentMessage, out=True, id=world.message_id, pts=world.next_pts(who),
        pts_count=1, date=now(),
    )  # fmt: skip


def log_out(connection, request, who):
    connection.world.logged_in.pop(connection.key.key_id, None)
    connection.world.scanned.discard(connection.key.key_id)
    return types.auth.LoggedOut()


def state(connection, request, who):
    if who is None:
        return error(401, "AUTH_KEY_UNREGISTERED")
    pts = connection.world.pts_of(who)
    return types.updates.State(pts=pts, qts=0, date=now(), seq=0, unread_count=0)


def yes(connection, request, who):
    return struct.pack("<I", TRUE)


ANSWERS = {
    "GetConfigRequest": config,
    "ExportLoginTokenRequest": export_token,
    "ImportBotAuthorizationRequest": bot_login,
    "GetUsersRequest": get_users,
    "GetFullUserRequest": full_user,
    "ResolveUsernameRequest": resolve,
    "SendMessageRequest": send_message,
    "LogOutRequest": log_out,
    "GetStateRequest": state,
    "UpdateStatusRequest": yes,
    "GetDifferenceRequest": lambda c, r, w: types.updates.DifferenceEmpty(date=now(), seq=0),
    "GetDialogsRequest": get_dialogs,
    "GetContactsRequest": lambda c, r, w: types.contacts.Contacts([], 0, []),
    "GetAvailableReactionsRequest": lambda c, r, w: types.messages.AvailableReactionsNotModified(),
    "GetAppConfigRequest": lambda c, r, w: types.help.AppConfig(1, types.JsonObject([])),
    "ReadHistoryRequest": lambda c, r, w: types.messages.AffectedMessages(c.world.pts_of(w), 0),
    "SetTypingRequest": yes,
    "GetHistoryRequest": lambda c, r, w: made(types.messages.Messages),
    "GetChatsRequest": get_chats,
    "GetFullChatRequest": get_full_chat,
    "GetPasswordRequest": get_password,
    "CheckPasswordRequest": check_password,
    "GetChannelsRequest": lambda c, r, w: error(400, "CHANNEL_INVALID"),
}


async def tell_of_scan(world, keys):
    """Tell clients that their code was scanned, until they ask what came of it.

    mautrix-telegram begins to listen for it a moment after it has shown the code.
    """
    while True:
        listening = [one for one in world.connections if one.key.key_id in keys - world.asked_again]
        if not listening:
            return
        for connection in listening:
            with contextlib.suppress(ConnectionError):
                await connection.push(types.UpdateLoginToken())
        await asyncio.sleep(NUDGE_SECONDS)


async def control(world, telling, reader, writer):
    """Do what the tests ask for, one line of JSON each."""
    while line := await reader.readline():
        order = json.loads(line)
        answer = {}
        match order["do"]:
            case "scan":
                answer["waiting"] = len(world.waiting)
                told = {one.key.key_id for one in world.connections} & world.waiting
                world.scanned |= told
                world.asked_again -= told
                world.waiting.clear()
                telling.create_task(tell_of_scan(world, told))
            case "say":
                world.message_id += 1
                said = made(
                    types.Message, id=world.message_id, peer_id=types.PeerUser(CAROL),
                    from_id=types.PeerUser(CAROL), date=now(), message=order["text"],
                )  # fmt: skip
                pts = world.next_pts(ME)
                update = types.UpdateNewMessage(message=said, pts=pts, pts_count=1)
                for connection in list(world.connections):
                    if world.logged_in.get(connection.key.key_id) == ME:
                        await connection.push(update, person(CAROL, ME), person(ME, ME))
            case "say in":
                world.message_id += 1
                said = said_in(order["group"], world.message_id, CAROL, order["text"])
                for who in (ME, BOT):
                    if who not in MEMBERS[order["group"]]:
                        continue
                    pts = world.next_pts(who)
                    update = types.UpdateNewMessage(message=said, pts=pts, pts_count=1)
                    for connection in list(world.connections):
                        if world.logged_in.get(connection.key.key_id) == who:
                            await connection.push(
                                update, person(CAROL, who), chats=[group(order["group"])]
                            )
            case "join":
                world.joined.add(CYCLISTS)
            case "password":
                world.password = Password(order["password"]) if order["password"] else None
            case "sent":
                answer["sent"] = world.sent
                answer["sent_to"] = world.sent_to
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()


async def main():
    port, control_port, key = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    world = World(rsa.PrivateKey.load_pkcs1(key.read_bytes()))
    await asyncio.start_server(
        lambda reader, writer: Connection(world, reader, writer).serve(), "127.0.0.1", port
    )
    async with asyncio.TaskGroup() as telling:
        await asyncio.start_server(
            lambda reader, writer: control(world, telling, reader, writer),
            "127.0.0.1",
            control_port,
        )
        await asyncio.Event().wait()


asyncio.run(main())
