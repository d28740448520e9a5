"""Groups of the small data centre: one with the relay bot in it, one that the person joins.

Source: https://core.telegram.org/api/channel ("Basic groups").
"""

from telegram_things import BOT, CAROL, ME, made, now, person
from telethon.tl import types

GARDENERS, CYCLISTS = 4004, 5005
NAMES = {GARDENERS: "Gardeners", CYCLISTS: "Cyclists"}
MEMBERS = {GARDENERS: (CAROL, BOT), CYCLISTS: (CAROL, ME)}


def group(number):
    return made(
        types.Chat,
        id=number,
        title=NAMES[number],
        photo=types.ChatPhotoEmpty(),
        participants_count=len(MEMBERS[number]),
        version=1,
    )


def get_chats(connection, request, who):
    known = [number for number in request.id if who in MEMBERS.get(number, ())]
    return types.messages.Chats([group(number) for number in known])


def get_full_chat(connection, request, who):
    number = request.chat_id
    creator, *others = MEMBERS[number]
    participants = [
        types.ChatParticipantCreator(user_id=creator),
        *(types.ChatParticipant(user_id=one, inviter_id=creator, date=now()) for one in others),
    ]
    full = made(
        types.ChatFull,
        id=number,
        about="",
        participants=types.ChatParticipants(chat_id=number, participants=participants, version=1),
        notify_settings=made(types.PeerNotifySettings),
    )
    people = [person(one, who) for one in MEMBERS[number]]
    return types.messages.ChatFull(full_chat=full, chats=[group(number)], users=people)


def get_dialogs(connection, request, who):
    joined = sorted(connection.world.joined) if who == ME else []
    dialogs = [
        made(
            types.Dialog,
            peer=types.PeerChat(number),
            top_message=number,
            notify_settings=made(types.PeerNotifySettings),
        )
        for number in joined
    ]
    messages = [said_in(number, number, CAROL, "We ride on Sunday.") for number in joined]
    return types.messages.Dialogs(
        dialogs, messages, [group(number) for number in joined], [person(CAROL, who)]
    )


def said_in(number, message_id, by, text):
    return made(
        types.Message,
        id=message_id,
        peer_id=types.PeerChat(number),
        from_id=types.PeerUser(by),
        date=now(),
        message=text,
    )
