import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { exec, LocationProvider, Route, Router, useLocation } from "preact-iso/router";
import lazy from "preact-iso/lazy";
import type { Problem } from "./api";
import { start } from "./live";
import { expired, isAdmin, open, session } from "./session";
import { Shell } from "./shell";
import { Empty, Failure, Loading, PageHead, useTitle } from "./ui/ui";
import { Login, LoginAgain, Register } from "./pages/login";
import { Today } from "./pages/today";

const Calls = lazy(() => import("./pages/calls"));
const OneCall = lazy(() => import("./pages/call"));
const FollowUps = lazy(() => import("./pages/followups"));
const Clients = lazy(() => import("./pages/clients"));
const OneClient = lazy(() => import("./pages/client"));
const Settings = lazy(() => import("./pages/settings"));
const Leads = lazy(() => import("./pages/leads"));
const OneLead = lazy(() => import("./pages/lead"));
const Team = lazy(() => import("./pages/team"));
const Deliveries = lazy(() => import("./pages/deliveries").then((page) => page.Deliveries));
const OneDelivery = lazy(() => import("./pages/deliveries").then((page) => page.DeliveryPage));
const Webhooks = lazy(() => import("./pages/webhooks").then((page) => page.Webhooks));
const OneWebhook = lazy(() => import("./pages/webhooks").then((page) => page.WebhookPage));
const Usage = lazy(() => import("./pages/usage"));
const Agents = lazy(() => import("./pages/agents"));

type Page = () => preact.JSX.Element;

/** adminOnly is a courtesy: the API refuses others anyway. */
function adminOnly(Page: Page) {
  return function AdminPage() {
    return isAdmin() ? <Page /> : <NotYours />;
  };
}

function NotYours() {
  useTitle("Only for admins");
  return <><PageHead title="Only for admins" /><Empty icon="shield" title="This page is for admins">An admin of your team can open it, or make you one.</Empty></>;
}

function Missing() {
  useTitle("Not found");
  return <><PageHead title="Not found" /><Empty icon="search" title="There is no such page"><a class="button primary" href="/console/">Go to Today</a></Empty></>;
}

const everybodys: Record<string, Page> = { "/console": Today, "/console/calls": Calls, "/console/calls/:id": OneCall, "/console/followups": FollowUps, "/console/clients": Clients, "/console/clients/:id": OneClient, "/console/leads": Leads, "/console/leads/:id": OneLead, "/console/settings": Settings };
const admins: Record<string, Page> = { "/console/team": Team, "/console/admin/agents": Agents, "/console/admin/webhooks": Webhooks, "/console/admin/webhooks/:id": OneWebhook, "/console/admin/deliveries": Deliveries, "/console/admin/deliveries/:id": OneDelivery, "/console/admin/usage": Usage };
const pages = Object.entries({ ...everybodys, ...Object.fromEntries(Object.entries(admins).map(([path, page]) => [path, adminOnly(page)])) });

// The file of the first page is loaded while the session is asked for.
for (const [path, page] of Object.entries({ ...everybodys, ...admins })) if (exec(location.pathname, path)) (page as { preload?: () => void }).preload?.();

/** busy marks that the page of the address is still being loaded, while the one before is shown. */
const busy = (is: boolean) => document.getElementById("main")?.setAttribute("aria-busy", String(is));

function Pages() {
  const { path, url } = useLocation();
  useEffect(() => { scrollTo(0, 0); document.getElementById("main")?.focus({ preventScroll: true }); }, [path]);
  useEffect(() => { if (session.value?.agent && /\/console\/(login|register)/.test(url)) history.replaceState(null, "", "/console/"); }, [url]);
  return (
    <Router onLoadStart={() => busy(true)} onLoadEnd={() => busy(false)}>
      {pages.map(([path, page]) => <Route key={path} path={path} component={page} />)}
      <Route default component={Missing} />
    </Router>
  );
}

/** Door shows the login until somebody is logged in, and then the page that was asked for. */
function Door() {
  const { path, route } = useLocation();
  const now = session.value, inside = Boolean(now?.agent);
  const entrance = path === "/console/login" || path === "/console/register";
  useEffect(() => { if (inside && entrance) route("/console/", true); }, [inside, entrance]);
  if (!now) return <Opening />;
  if (!inside) return path === "/console/register" || (now.first_run && path !== "/console/login") ? <Register /> : <Login />;
  if (entrance) return null;
  return <><Shell key={now.agent!.id}><Pages /></Shell>{expired.value && <LoginAgain />}</>;
}

function Opening() {
  const [problem, setProblem] = useState<Problem>();
  const tryIt = () => { setProblem(undefined); open().catch(setProblem); };
  useEffect(tryIt, []);
  return <div class="opening">{problem ? <Failure error={problem} retry={tryIt} /> : <Loading rows={4} />}</div>;
}

// A newer version of the console has other files: a page that cannot load its part loads all anew, once.
addEventListener("unhandledrejection", (event) => {
  if (!/dynamically imported module/.test(String(event.reason))) return;
  if (sessionStorage.getItem("reloaded") === location.href) return;
  sessionStorage.setItem("reloaded", location.href);
  location.reload();
});

start();
render(<LocationProvider scope="/console"><Door /></LocationProvider>, document.getElementById("app")!);
