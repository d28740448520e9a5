// What Element's sources expect of webpack: node's globals, and React for the pictures made to
// components.
import { Buffer } from "buffer";
import process from "process";
import * as React from "react";

window.Buffer = Buffer;
window.process = process;
export { Buffer, process, React };
