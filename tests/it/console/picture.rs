//! The picture of the console that the README shows: `docs/console.png`.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::browser::Browser;
use crate::support::server::FILE_HANDLER;
use crate::support::simulation::Simulation;
use crate::support::target::{Reply, Target};
use crate::support::{Settings, TestServer};

/// Makes the picture again, from three minutes of simulated traffic. Needs pngquant, which reduces
/// the colours.
///
/// `cargo test --test it picture_of_the_console -- --ignored`
#[test]
#[ignore = "writes docs/console.png"]
fn the_picture_of_the_console_is_made() {
    let requests = AtomicUsize::new(0);
    // One delivery in three hundred fails and is tried again.
    let target = Target::start(move |_| {
        let number = requests.fetch_add(1, Ordering::Relaxed);
        Reply::Status(if number % 300 == 299 { 503 } else { 204 })
    });
    let url = target.url();
    let handlers = format!(
        "{FILE_HANDLER}
         [handlers.backend]\nto = {{ type = \"http\", url = \"{url}\" }}
         [handlers.rooms]\nkinds = [\"stream-live\", \"stream-offline\"]\nto = {{ type = \"http\", url = \"{url}\" }}\n"
    );
    let server = TestServer::start(&Settings::with_handlers(&handlers));
    let browser = Browser::start();
    browser.set_color_scheme("light");
    browser.resize(1200, 1000);
    browser.open(&server.admin_url());
    let kinds = "stream-begin,stream-end,snapshot,record,image-audit,relay";
    for (seed, rate) in [9, 14, 12, 21, 17, 24, 19, 22, 16, 20]
        .into_iter()
        .enumerate()
    {
        let traffic = format!(
            "--rate {rate} --duration 18s --streams 12 --kinds {kinds} --seed {seed} --time-scale 60"
        );
        Simulation::of(&server.css(), &traffic).wait().good();
    }
    browser
        .wait_for("window.scrollTo(0, 0); return document.querySelectorAll('table').length === 2");
    // The window is as high as the page.
    let height =
        browser.run("return document.querySelector('main').getBoundingClientRect().bottom");
    let chrome = browser.run("return window.outerHeight - window.innerHeight");
    let height = height.as_f64().unwrap() + chrome.as_f64().unwrap() + 8.0;
    browser.resize(1200, height as u32);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/console.png");
    browser.screenshot(&file);
    let smaller = Command::new("pngquant")
        .args(["--force", "--speed", "1", "--output"])
        .args([&file, Path::new("64"), &file])
        .status();
    assert!(smaller.unwrap().success());
    assert!(std::fs::metadata(&file).unwrap().len() < 150_000);
}
