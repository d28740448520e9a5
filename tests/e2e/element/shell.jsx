// Element Web without its build: what starts its MatrixChat, in as little as it takes.
// ?homeserver=URL says where to log in; it is remembered like Element's configuration.
import React from "react";
import ReactDOM from "react-dom";
import PlatformPeg from "matrix-react-sdk/lib/PlatformPeg";
import BasePlatform from "matrix-react-sdk/lib/BasePlatform";
import SdkConfig from "matrix-react-sdk/lib/SdkConfig";
import * as languageHandler from "matrix-react-sdk/lib/languageHandler";

class Browser extends BasePlatform {
  getHumanReadableName() {
    return "Web Platform";
  }
  getDefaultDeviceDisplayName() {
    return "Element Web";
  }
  async getConfig() {
    return SdkConfig.get();
  }
  async getAppVersion() {
    return "steward-test-element";
  }
  async requestNotificationPermission() {
    return "denied";
  }
  reload() {
    window.location.reload();
  }
}

function unwrapped(module) {
  let inner = module;
  while (inner.default) inner = inner.default;
  return inner;
}

function screen() {
  const [name, query] = window.location.hash.replace(/^#\/?/, "").split("?");
  return { screen: name, params: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

async function lendTokenToWorker() {
  await navigator.serviceWorker.register("/worker.mjs");
  await navigator.serviceWorker.ready;
  setInterval(() => {
    const client = window.mxMatrixClientPeg?.get?.();
    const session = client && { token: client.getAccessToken(), homeserver: client.baseUrl };
    if (session) navigator.serviceWorker.controller?.postMessage(session);
  }, 300);
}

async function main() {
  const query = Object.fromEntries(new URLSearchParams(window.location.search));
  const homeserver = query.homeserver ?? localStorage.getItem("steward_homeserver");
  localStorage.setItem("steward_homeserver", homeserver);
  delete query.homeserver;

  PlatformPeg.set(new Browser());
  await lendTokenToWorker();
  const config = {
    default_server_config: { "m.homeserver": { base_url: homeserver } },
    brand: "Element",
    disable_guests: true,
    setting_defaults: {},
  };
  SdkConfig.put(config);
  await languageHandler.setLanguage(["en"]);
  // Only now: these read the configuration while they are loaded.
  const discovery = unwrapped(await import("matrix-react-sdk/lib/utils/AutoDiscoveryUtils"));
  const MatrixChat = unwrapped(
    await import("matrix-react-sdk/lib/components/structures/MatrixChat"),
  );
  const server = await discovery.validateServerConfigWithStaticUrls(homeserver, undefined, true);
  SdkConfig.put({ ...config, validated_server_config: server });

  const first = screen();
  ReactDOM.render(
    <MatrixChat
      ref={(chat) => {
        window.matrixChat = chat;
      }}
      config={SdkConfig.get()}
      enableGuest={false}
      realQueryParams={query}
      startingFragmentQueryParams={first.params}
      initialScreenAfterLogin={first.screen ? first : undefined}
      defaultDeviceDisplayName="Element Web"
      onNewScreen={(name, replace) =>
        history[replace ? "replaceState" : "pushState"](null, "", `${location.pathname}#/${name}`)
      }
      onTokenLoginCompleted={() => history.replaceState(null, "", location.pathname)}
    />,
    document.getElementById("matrixchat"),
  );
  addEventListener("hashchange", () => {
    const next = screen();
    window.matrixChat.showScreen(next.screen, next.params);
  });
}

main().catch((error) => {
  document.title = "failed";
  document.body.append(String(error?.stack ?? error));
});
