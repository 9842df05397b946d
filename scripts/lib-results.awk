# Reads what test programs print (Rust's harness with --show-output, or our own one line a case)
# and prints one line a test: `ok NAME`, `FAILED NAME: why`, `skipped NAME: why`.
# A test of Rust's harness says that it could not run by printing a line `skipped: why` and returning.
# The harness's own totals must agree with the lines found, or that is a failure of its own.

function plain(text) { gsub(/[^A-Za-z0-9_:.\/-]+/, "_", text); gsub(/^_+|_+$/, "", text); return text }

function seen(name, verdict, reason) {
    if (!(name in state)) order[++count] = name
    state[name] = verdict
    if (reason != "") why[name] = reason
}

function flush(    i, name, tail) {
    for (i = 1; i <= count; i++) {
        name = order[i]
        tail = state[name] == "ok" ? "" : ": " (name in why ? why[name] : "no reason given")
        print state[name] " " prefix plain(name) tail
    }
    split("", state); split("", why); split("", order)
    count = 0; section = ""; panicked = 0
}

/^ +Running / { flush(); prefix = $0; sub(/.*\//, "", prefix); sub(/-[0-9a-f]+\)$/, "", prefix); prefix = prefix "::" }
/^ +Doc-tests / { flush(); prefix = "" }
/^BINARY / { flush(); prefix = $2 "::" }

/^test .* \.\.\. (ok|FAILED|ignored)/ {
    name = $0
    sub(/^test /, "", name); sub(/ \.\.\. .*/, "", name); sub(/ - should panic$/, "", name)
    reason = $0; sub(/.* \.\.\. [a-zA-Z]+(, )?/, "", reason)
    if ($0 ~ / \.\.\. ok/) seen(name, "ok", "")
    else if ($0 ~ / \.\.\. FAILED/) seen(name, "FAILED", "")
    else seen(name, "skipped", reason == "" ? "marked `ignore`" : reason)
    next
}
/^---- .* stdout ----$/ { section = $0; sub(/^---- /, "", section); sub(/ stdout ----$/, "", section); panicked = 0; next }
section != "" && /^skipped: / && state[section] == "ok" { 
    reason = substr($0, 10); at = index(reason, section ": ")
    seen(section, "skipped", at == 1 ? substr(reason, length(section) + 3) : reason)
    next
}
section != "" && panicked == 1 && !(section in why) && state[section] == "FAILED" { why[section] = $0; panicked = 0 }
section != "" && / panicked at / { panicked = 1; next }
section != "" && /^(failures|successes):$/ { section = ""; next }

/^test result: / {
    split($0, total, /[.;] +/)
    told = 0
    for (i in total) if (total[i] ~ /^[0-9]+ (passed|failed|ignored)$/) told += total[i] + 0
    if (told != count) print "FAILED " prefix "totals: the harness tells of " told " tests, " count " were seen"
    flush()
}
section == "" && /^ok [^ ]+$/ { print; next }
section == "" && /^(FAILED|skipped) [^ ]+: / { print; next }
section == "" && /^skipped: / { # written past the harness, so nobody can tell which test it was
    print "FAILED " prefix "skips: say it with eprintln!, this line names no test: " $0
}
END { flush() }
