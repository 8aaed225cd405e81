import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";
import { applyTheme } from "./lib/theme.ts";
import { store } from "./state/hooks.ts";
import { follow } from "./state/stream.ts";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/views.css";

applyTheme();
follow(store);

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
