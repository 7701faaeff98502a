//! The web page in a real browser.

use std::fs;
use std::time::Duration;

use backstay::Heartbeat;
use backstay::heartbeat::Status;
use serde_json::json;

use super::chromium::Page;
use super::{Served, stale};

fn open(served: &Served) -> Option<Page> {
    Page::open(&format!("http://{}/", served.address))
}

fn beating(served: &Served, name: &str) -> Heartbeat {
    let file = served.folder().join(format!("{name}.heartbeat"));
    let heartbeat = Heartbeat::builder()
        .state_file(file)
        .interval(Duration::from_secs(10))
        .metadata([("version", "1.0.0")])
        .build()
        .unwrap();
    heartbeat.start().unwrap();
    heartbeat
}

fn headline(text: &str) -> String {
    format!("document.getElementById('headline').lastChild.textContent === '{text}'")
}

#[test]
fn the_web_page_follows_the_heartbeats() {
    let mut served = Served::start(&[]);
    let Some(mut page) = open(&served) else { return };
    page.until(&headline("No heartbeats here"));
    page.until("!document.getElementById('none').hidden");

    let heartbeat = beating(&served, "api");
    page.until(&headline("Alive"));
    page.until("document.title === '● Alive – Backstay'");
    page.until("document.querySelector('.name').textContent === 'api'");
    page.until("document.querySelector('.state').textContent === '●ALIVE'");
    page.until("document.querySelector('svg').getAttribute('aria-label').startsWith('last 10 m 00 s: alive ')");

    // A service opened by the keyboard stays open and keeps the focus while others change.
    page.value("document.querySelector('summary').focus()");
    page.key("Enter", 13, "\r");
    page.until("document.querySelector('details').open");
    page.until("document.querySelector('dl').innerText.includes('1.0.0')");
    heartbeat.set_status(Status::Degraded);
    page.until(&headline("1 not ready"));
    page.until("document.querySelector('.said').textContent === 'degraded'");
    let _other = beating(&served, "other");
    page.until(&headline("1 not ready, 1 alive"));
    heartbeat.stop();
    page.until(&headline("1 stopped, 1 alive"));
    stale(&served.folder(), "worker", &json!({"restarts": 2, "freezes": 1, "says": "40 orders"}));
    page.until(&headline("1 dead, 1 stopped, 1 alive"));
    let names = page.value("[...document.querySelectorAll('.name')].map((name) => name.textContent)");
    assert_eq!(names, json!(["worker", "api", "other"]), "the worst first");
    assert_eq!(page.text("document.querySelector('.said').textContent"), "stale · 2 restarts · 1 freeze · 40 orders");
    page.until("document.activeElement.closest('li').querySelector('.name').textContent === 'api'");
    page.until("document.activeElement.closest('details').open");

    page.key("/", 191, "/");
    page.call("Input.insertText", &json!({"text": "ORDERS"}));
    page.until("[...document.querySelectorAll('li')].filter((row) => !row.hidden).length === 1");
    page.key("Escape", 27, "");
    page.until("[...document.querySelectorAll('li')].every((row) => !row.hidden)");
    fs::remove_dir_all(served.folder()).unwrap();
    page.until("document.getElementById('trouble').textContent.startsWith('The folder cannot be read: No such file')");
    fs::create_dir(served.folder()).unwrap();
    page.until("document.getElementById('trouble').hidden");
    assert_eq!(page.complaints, Vec::<String>::new());

    // Old data is marked as old.
    served.terminate();
    served.wait();
    page.until("document.getElementById('trouble').textContent.startsWith('No answer from backstay serve')");
    page.until("document.title.startsWith('?') && document.body.classList.contains('old')");
}

#[test]
fn text_from_heartbeats_is_not_markup() {
    let served = Served::start(&[]);
    let markup = r#"<img src=x onerror="owned=1"><svg onload="owned=1"><script>owned=1</script>"#;
    let says = json!({
        "says": markup, "state": markup, "last_exit": markup, "command": format!("</dd>{markup}"), markup: markup,
        "restarts": markup, "freezes": {"toString": markup}, "__proto__": {"owned": 1}, "constructor": "x",
        "deep": [{"a": markup}],
    });
    // A file name may contain any character but a slash.
    stale(&served.folder(), &markup.replace('/', ""), &says);
    stale(&served.folder(), "\u{202e}", &json!({}));
    let state = json!({"timestamp": "2001-01-01T00:00:00Z", "pid": 1, "hostname": markup, "metadata": [markup]});
    fs::write(served.folder().join("__proto__.heartbeat"), state.to_string()).unwrap();
    let Some(mut page) = open(&served) else { return };
    page.until("document.querySelectorAll('li').length === 3");
    page.value("document.querySelectorAll('details').forEach((row) => { row.open = true; })");
    page.until("document.querySelector('dl').innerText.includes('owned=1')");
    let elements = "img, script:not([src='page.js']), main svg:not(.strip), li iframe, li a";
    assert_eq!(page.value(&format!("document.querySelectorAll(\"{elements}\").length")), 0);
    assert_eq!(page.text("typeof owned + typeof ({}).owned"), "undefinedundefined");
    assert_eq!(page.complaints, Vec::<String>::new());

    // The content security policy would block markup.
    page.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"owned=1\">')");
    page.until("document.querySelector('img').complete");
    assert_eq!(page.text("typeof owned"), "undefined");
    assert!(page.complaints.iter().any(|entry| entry.contains("Content Security Policy")), "{:?}", page.complaints);
}

// Two lists of names must differ even if a name contains a newline.
#[test]
fn metadata_with_any_key_is_shown() {
    let served = Served::start(&[]);
    stale(&served.folder(), "bot", &json!({"a\nb": 1}));
    let Some(mut page) = open(&served) else { return };
    page.until("document.querySelectorAll('li').length === 1");
    page.value("document.querySelectorAll('details').forEach((row) => { row.open = true; })");
    let last = |text: &str| format!("document.querySelector('dl').lastChild.textContent === '{text}'");
    page.until(&last("1"));
    stale(&served.folder(), "bot", &json!({"a": 1, "b": 2}));
    page.until(&last("2"));
    assert_eq!(page.complaints, Vec::<String>::new());
}

#[test]
fn it_is_readable_at_every_width_in_light_and_dark() {
    let served = Served::start(&[]);
    let long = "a_name_without_end_".repeat(8);
    let says = json!({"says": "word".repeat(100), "command": "x".repeat(2000), "restarts": 12});
    stale(&served.folder(), &long, &says);
    fs::write(served.folder().join("broken.heartbeat"), "{").unwrap();
    let heartbeats: Vec<Heartbeat> = ["api", "feed", "gone"].iter().map(|name| beating(&served, name)).collect();
    heartbeats[1].set_status(Status::Degraded);
    heartbeats[2].stop();
    let Some(mut page) = open(&served) else { return };
    page.until(&headline("1 dead, 1 unknown, 1 not ready, 1 stopped, 1 alive"));
    page.value("document.querySelectorAll('details').forEach((row) => { row.open = true; })");
    for width in [320, 375, 736, 1000, 2000] {
        page.size(width);
        let wide = page.value("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= u64::from(width), "{width}: {wide}");
    }
    // WCAG AA: a contrast of at least 4.5 to 1.
    let contrast = "(() => {
        const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
            .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
        const ground = (node) => {
            const color = getComputedStyle(node).backgroundColor;
            return color === 'rgba(0, 0, 0, 0)' ? ground(node.parentElement) : color;
        };
        const texts = [...document.querySelectorAll('body *')].filter((node) => node.checkVisibility()
            && [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
        return texts.map((node) => {
            const [one, other] = [getComputedStyle(node).color, ground(node)].map(light).sort((a, b) => b - a);
            return [(one + 0.05) / (other + 0.05), node.className + ': ' + node.textContent.slice(0, 20)];
        }).sort(([one], [other]) => one - other)[0];
    })()";
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        page.scheme(scheme);
        let worst = page.value(contrast);
        assert!(worst[0].as_f64().unwrap() >= 4.5, "{scheme}: {worst}");
        grounds.push(page.text("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(grounds[0], grounds[1]);
    // Each severity has its own symbol, so that colour is not the only difference.
    let symbols = page.value("new Set([...document.querySelectorAll('.state i')].map((i) => i.textContent)).size");
    assert_eq!(symbols, 5);
}

#[test]
fn a_thousand_services_are_shown() {
    let served = Served::start(&[]);
    for index in 0..1003 {
        stale(&served.folder(), &format!("service-{index:04}"), &json!({"restarts": index}));
    }
    let Some(mut page) = open(&served) else { return };
    page.until("document.querySelectorAll('li').length === 1000");
    page.until("document.getElementById('more').textContent === '3 more are not shown.'");
    assert!(page.value("document.querySelectorAll('*').length").as_u64().unwrap() < 20_000);
}
