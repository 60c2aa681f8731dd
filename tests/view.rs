//! What people look at, over a loaded server: `ringmail top` on a terminal and off one, and
//! the page in a browser.

#[path = "view/browser.rs"]
mod browser;
#[path = "view/page.rs"]
mod page;
#[path = "view/scene.rs"]
mod scene;
#[path = "view/top.rs"]
mod top;
