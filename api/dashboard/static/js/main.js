// Signs in, shows the page that the credential is for, and signs out again when it is no longer good.

import { ApiError, Client } from "./client.js";
import { openCustomerPage } from "./customer/page.js";
import { openOperatorPage } from "./operator/page.js";
import { credential, isCustomerKey, keepCredential } from "./session.js";
import { signInForm } from "./sign-in.js";
import { Status } from "./status.js";

const main = document.getElementById("main");
const signOutButton = document.getElementById("sign-out");
const status = new Status(document.getElementById("status"));

let page = null;

function show(value) {
  const closing = new AbortController();
  page = closing;
  signOutButton.hidden = false;
  status.open();
  const context = { root: main, client: new Client(value), status, signal: closing.signal, onRefused: refused };
  main.replaceChildren();
  if (isCustomerKey(value)) openCustomerPage(context);
  else openOperatorPage(context);
}

function signOut(sentence = "") {
  page?.abort();
  page = null;
  keepCredential(null);
  status.close();
  signOutButton.hidden = true;
  main.replaceChildren(signInForm({ sentence, signIn }));
  main.querySelector("input").focus();
}

function refused() {
  signOut("This key is not valid any more. Sign in with another.");
}

/** Raises ApiError where the credential is not good. */
async function signIn(value) {
  if (!/^[\x21-\x7e]{1,512}$/.test(value)) throw new ApiError(401, "");
  await new Client(value).get(isCustomerKey(value) ? "organizations" : "operator/blocks");
  keepCredential(value);
  show(value);
  main.focus();
}

signOutButton.addEventListener("click", () => signOut());
const held = credential();
if (held) show(held);
else signOut();
