"""Runtimes that a page has: WebAssembly in Node and in headless Chromium."""
