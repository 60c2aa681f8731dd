//! Rights are checked on every PUBLISH and REQUEST: a check allocates nothing.

use ringmail::auth::rights::Role;
use ringmail::auth::{Roles, Who};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller's promise is passed on to the system.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no locals any more; it does not count.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller's promise is passed on to the system.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_check_allocates_nothing() {
    let filters = [
        "devices/{principal}/#",
        "{client_id}/+/x",
        "+/y",
        "a/b",
        "$sys/#",
    ];
    let filters = filters.map(String::from).to_vec();
    let role = Role {
        publish: filters.clone(),
        subscribe: filters.clone(),
        request: filters.clone(),
        serve: filters,
        admin: false,
    };
    let roles = Roles::new([("role", &role)]).expect("roles");
    let rights = roles.rights(&["role"]);
    let who = Who {
        principal: "d1",
        client_id: Some("c1"),
    };
    let names = [
        "devices/d1/x",
        "devices/d2/x",
        "c1/z/x",
        "q/y",
        "a/b",
        "$sys/echo",
        "no/where",
    ];
    let before = ALLOCATIONS.get();
    let mut allowed = 0;
    for name in names {
        allowed += usize::from(rights.may_publish(name, who));
        allowed += usize::from(rights.may_subscribe(name, who));
        allowed += usize::from(rights.may_request(name, who));
        allowed += usize::from(rights.may_serve(name, who));
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(allowed, 5 * 4);
    // The counter does count.
    drop(Box::new(std::hint::black_box(1)));
    assert!(ALLOCATIONS.get() > before);
}
