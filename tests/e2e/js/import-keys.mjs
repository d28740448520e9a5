// Imports a key export and decrypts events with it, by the cryptography of Element (WebAssembly).
//
// Standard input: {"file", "passphrase", "room", "events": [event, ...]}; standard output:
// {"imported": number, "said": [plaintext, ...]}.

import { text } from "node:stream/consumers";

import * as crypto from "@matrix-org/matrix-sdk-crypto-wasm";

await crypto.initAsync();
const { file, passphrase, room, events } = JSON.parse(await text(process.stdin));
const machine = await crypto.OlmMachine.initialize(
    new crypto.UserId("@expert:example.org"),
    new crypto.DeviceId("EXPERT"),
);
const clear = crypto.OlmMachine.decryptExportedRoomKeys(file, passphrase);
const result = await machine.importExportedRoomKeys(clear, () => undefined);
const settings = new crypto.DecryptionSettings(crypto.TrustRequirement.Untrusted);
const said = [];
for (const event of events) {
    const found = await machine.decryptRoomEvent(JSON.stringify(event), new crypto.RoomId(room), settings);
    said.push(JSON.parse(found.event));
}
process.stdout.write(JSON.stringify({ imported: Number(result.importedCount), said }));
process.exit(0);
