//! Another's program, which has ringmail's client and nothing else (`tests/server/alone.rs`).

use ringmail::blocking::Client;
use ringmail::client::{Error, Incoming};

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).expect("an address");
    let mut client = Client::connect(&address)?;
    let echo = client.request("$sys/echo", "over the air")?;

    client.subscribe("site/+/door")?;
    client.serve("text/upper")?;
    let mut other = Client::connect(&address)?;
    for topic in ["site/1/door", "site/2/door", "site/3/door"] {
        other.publish_confirmed(topic, "open")?;
    }
    let asking = std::thread::spawn(move || other.request("text/upper", "open"));

    let mut messages = 0;
    loop {
        match client.receive()? {
            Incoming::Message(message) => {
                assert_eq!(message.payload, b"open");
                messages += 1;
            }
            Incoming::Request(request) => {
                let answer = request.payload.to_ascii_uppercase();
                client.respond(&request, answer)?;
                break;
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }
    let answer = asking.join().expect("no panic")?;
    assert_eq!(answer.payload, b"OPEN");
    println!(
        "{} bytes back, {messages} messages, 1 answer",
        echo.payload.len()
    );
    client.close()
}
