# psi: `make demo`, `make test`, `make install`.
# On a fresh Debian, as root, each target installs the packages that it needs.

PREFIX  ?= /usr
DESTDIR ?=
CARGO   ?= cargo

# psi-driver and psictl are linked statically if the toolchain can: for a program that runs for a millisecond,
# dynamic linking costs more than the whole call.
MUSL    := $(shell uname -m)-unknown-linux-musl
DIST    := target/dist

.PHONY: all build deb rpm image debug deps demo-deps demo test test-podmans vm-test vm-host chaos bench bench-programs budget fuzz lint deny generate install clean

all: build

## The three programs, as they are shipped, in target/dist.
build:
	$(CARGO) build --locked --release -p psi-daemon
	@rustup target add $(MUSL) >/dev/null 2>&1 || true
	if rustup target list --installed 2>/dev/null | grep -qx $(MUSL); then \
	    $(CARGO) build --locked --profile driver -p psi-driver --target $(MUSL) && \
	    install -D -t $(DIST) target/$(MUSL)/driver/psi-driver target/$(MUSL)/driver/psictl; \
	else \
	    echo "no target $(MUSL): linking psi-driver and psictl statically against glibc"; \
	    host=$$(rustc -vV | sed -n 's/^host: //p'); \
	    RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --locked --profile driver -p psi-driver --target $$host || \
	        { echo "no static glibc (Fedora: glibc-static): linking psi-driver and psictl dynamically; each lookup takes longer"; \
	          $(CARGO) build --locked --profile driver -p psi-driver --target $$host; } && \
	    install -D -t $(DIST) target/$$host/driver/psi-driver target/$$host/driver/psictl; \
	fi
	install -D target/release/psid $(DIST)/psid

## The requirements of demo and tests beyond a Rust toolchain: podman, a software TPM, the SDKs' runtimes.
deps:
	@tests/deps.sh

## What the demo needs: podman and a software TPM.
demo-deps:
	@tests/deps.sh demo

## A secret from Infisical in a container, Infisical is killed, and the container started again. By programs that are
## not optimized, which take a third of the time to build.
demo: demo-deps
	$(CARGO) build --locked -p psi-daemon -p psi-driver -p fake-infisical
	@DIST=target/debug tests/demo.sh

debug:
	$(CARGO) build --locked --workspace

## Every test, with real podman and a software TPM. The tests send SIGINT and SIGQUIT, which a make in the
## background ignores.
test: deps debug
	env --default-signal=INT,QUIT $(CARGO) test --locked --workspace --all-targets

## Where new secrets go, by every podman that Debian has: 4.3 to the one of experimental.
test-podmans: deps debug
	tests/podmans.sh all
	$(CARGO) test --locked -p psi-tests --test podman containers_conf

## psid under each fault in turn, then under random ones for MINUTES, with 32 clients that look up all the time.
## The table is target/chaos.md; SEED repeats a run; ONLY="one directory" selects faults by their names.
chaos: deps debug
	PSI_CHAOS_SEED=$(SEED) PSI_CHAOS_MINUTES=$(or $(MINUTES),10) PSI_CHAOS_ONLY="$(ONLY)" \
	    $(CARGO) test --locked -p psi-tests --test chaos -- --nocapture

## A whole host, with systemd, a TPM, podman, reboots and power cuts; the table is target/vm/story.md.
## STEPS="a c" for some of tests/vm/steps; SEED, CUTS and KILLS for the random ones.
vm-test: deps deb
	$(CARGO) build --locked -p fake-infisical
	@tests/vm/story.sh

## On such a host: the package is installed, upgraded in use, removed and purged; rootless podman; eight users at root's
## psid; AppArmor; rotated values. PARTS=container tests psid as a container, after `make image`.
vm-host: deps deb
	$(CARGO) build --locked -p fake-infisical -p psi-probes
	@tests/vm/build.sh
	@for part in $(or $(PARTS),packages init rootless users apparmor rotate); do VM=host tests/vm/$$part.sh || exit 1; done

## Each figure that psi promises, with its target: a table, target/bench.json, and tests/bench/RESULTS.md after a
## full run (five minutes). QUICK=1 takes two minutes; ONLY="rate disk" selects figures.
bench: deps build bench-programs
	target/release/psi-bench $(if $(QUICK),--quick) $(foreach name,$(ONLY),--only $(name))

## The instructions of a lookup and the size of psi-driver, against tests/bench/budget.toml.
budget: deps build bench-programs
	target/release/psi-bench budget

bench-programs:
	$(CARGO) build --locked --release -p psi-bench -p fake-infisical

## Hostile input, guided by coverage: TARGET="config id" for some of tests/fuzz/seeds, SECONDS for each.
fuzz: deps
	@tests/fuzz/run.sh $(or $(SECONDS),60) $(TARGET)

## Format and lints, before each commit.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

## The licences and sources of the dependencies; requires `cargo install cargo-deny`. The advisory database is a
## git repository: add `advisories` if it can be reached.
deny:
	$(CARGO) deny --locked check bans licenses sources

## Generated and committed: the gRPC code, man pages, completions, transcripts of the command lines.
generate:
	UPDATE_GENERATED=1 $(CARGO) test -q -p psi-proto --test drift
	UPDATE_GENERATED=1 $(CARGO) test -q -p psi-driver -p psi-daemon --test manual
	$(CARGO) build -q --workspace
	TRYCMD=overwrite $(CARGO) test -q -p psi-tests --test psictl transcripts
	UPDATE_GENERATED=1 $(CARGO) test -q -p psi-tests --test service rpc_table

## Run `make build` first. An existing config is kept, nothing is started, and podman's secret driver is not
## changed until `psictl install`: without a config, psi would fail each `podman secret create` of the host.
SHARE   := $(DESTDIR)$(PREFIX)/share
LIB     := $(DESTDIR)$(PREFIX)/lib
# polkit reads only /usr/share and /etc.
POLKIT  := $(DESTDIR)$(if $(filter /usr,$(PREFIX)),/usr/share,/etc)
install:
	@test -x $(DIST)/psid -a -x $(DIST)/psi-driver -a -x $(DIST)/psictl || { echo "run 'make build' first"; exit 1; }
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(DIST)/psi-driver $(DIST)/psictl $(DIST)/psid
	install -D -m 0644 -t $(LIB)/systemd/system contrib/systemd/*.service contrib/systemd/*.socket contrib/systemd/*.path
	install -D -m 0644 -t $(LIB)/systemd/user contrib/systemd/user/psi*
	install -D -m 0644 -t $(LIB)/sysusers.d contrib/sysusers.d/psi.conf
	install -D -m 0644 -t $(LIB)/tmpfiles.d contrib/tmpfiles.d/psi.conf
	install -D -m 0644 -t $(POLKIT)/polkit-1/rules.d contrib/polkit-1/rules.d/psi.rules
	install -D -m 0644 -t $(SHARE)/man/man1 contrib/man/*.1
	install -D -m 0644 -t $(SHARE)/man/man5 contrib/man/*.5
	install -D -m 0644 -t $(SHARE)/man/man8 contrib/man/*.8
	install -D -m 0644 contrib/completions/psi-driver.bash $(SHARE)/bash-completion/completions/psi-driver
	install -D -m 0644 contrib/completions/psictl.bash $(SHARE)/bash-completion/completions/psictl
	install -D -m 0644 -t $(SHARE)/zsh/site-functions contrib/completions/_psi-driver contrib/completions/_psictl
	install -D -m 0644 -t $(SHARE)/fish/vendor_completions.d contrib/completions/psi-driver.fish contrib/completions/psictl.fish
	install -D -m 0644 -t $(SHARE)/psi contrib/config/psi.toml
	install -D -m 0644 -t $(SHARE)/psi/psid.service.d contrib/systemd/psid.service.d/hsm.conf
	install -D -m 0644 -t $(SHARE)/psi/selinux contrib/selinux/psi.*
	install -D -m 0644 -t $(SHARE)/psi/apparmor contrib/apparmor/psid
	install -D -m 0644 -t $(SHARE)/psi/containers.conf.d contrib/containers.conf.d/50-psi.conf
	install -D -m 0644 -t $(SHARE)/doc/psid README.md CHANGELOG.md CONTRIBUTING.md LICENSE
	install -D -m 0644 -t $(SHARE)/doc/psid/contrib/doc contrib/doc/*.md
	install -D -m 0644 -t $(SHARE)/doc/psid/tests/bench tests/bench/RESULTS.md tests/bench/results.svg
	sed -i 's,/usr/bin/psi,$(PREFIX)/bin/psi,' $(LIB)/systemd/*/psi*.service $(SHARE)/psi/containers.conf.d/50-psi.conf
	test -e $(DESTDIR)/etc/psi/config.toml || install -D -m 0640 contrib/config/psi.toml $(DESTDIR)/etc/psi/config.toml
	@[ -n "$(DESTDIR)" ] || { systemd-sysusers psi.conf && systemd-tmpfiles --create psi.conf; } || \
	    echo "make the user psi, and /etc/psi for it: see contrib/sysusers.d and contrib/tmpfiles.d"
	@[ -n "$(DESTDIR)" ] || [ ! -d /run/systemd/system ] || systemctl daemon-reload

## A Debian package of the built programs, in target/.
deb: build
	@contrib/packaging/deb.sh

## An rpm of them, in target/; requires rpmbuild (Debian: rpm).
rpm: build
	rpmbuild -bb --quiet --define "_topdir $(CURDIR)/target/rpm" --define "psi_tree $(CURDIR)" \
	    --define "psi_version $$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" contrib/packaging/psid.spec
	find target/rpm/RPMS -name '*.rpm' -exec mv -t target {} +

## psid as a container, for contrib/container/psid.container; nothing is downloaded.
image: build
	@contrib/container/build.sh

clean:
	$(CARGO) clean
