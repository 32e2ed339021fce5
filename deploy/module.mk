# make install: programs, systemd units, man pages, shell completion. Man pages and completion come out
# of the programs' own tables, so they cannot disagree with them.
BINDIR := $(PREFIX)/bin
UNITDIR := $(PREFIX)/lib/systemd/system
SHARE := $(PREFIX)/share
LIBEXECDIR := $(PREFIX)/libexec/skep
UNITS := $(patsubst deploy/systemd/%.in,%,$(wildcard deploy/systemd/*.in))

install: all
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(LIBEXECDIR)
	install -m 0755 $(PROGRAMS:%=$(B)/%) $(DESTDIR)$(BINDIR)
	install -m 0755 $(GATE) $(DESTDIR)$(LIBEXECDIR)
	for u in $(UNITS); do sed 's,@BINDIR@,$(BINDIR),' deploy/systemd/$$u.in >$(DESTDIR)$(UNITDIR)/$$u && \
	    chmod 0644 $(DESTDIR)$(UNITDIR)/$$u || exit 1; done
	deploy/install_docs.sh $(B) $(DESTDIR)$(SHARE)
