#!/usr/bin/perl
# The rules of the tree that a compiler does not know. Arguments: C sources and headers, root-relative.
# Prints one line per finding, `path:line: what`, and closes with files that keep all rules and those
# that do not. Comments and strings are blanked before the code is looked at.
use strict;
use warnings;

my %limit = (file_lines => 800, function_lines => 70, parameters => 5);

# Calls that have no place here, and what to use instead. `only` names the files that wrap a call.
my %banned = (
    (map { $_ => 'unbounded' } qw(strcpy strcat sprintf vsprintf gets stpcpy alloca)),
    (map { $_ => 'hides errors: parse strictly' } qw(atoi atol atoll atof)),
    strtok => 'keeps hidden state',
    (map { $_ => 'use common/prng or common/random' } qw(rand srand random srandom drand48)),
    (map { $_ => 'use posix_spawn' } qw(system vfork)),
);
my %only = (
    (map { $_ => 'common/clock.c' } qw(time clock_gettime gettimeofday)),
    (map { $_ => 'common/random.c' } qw(getrandom getentropy)),
);

# Pure cores: no I/O, clock, randomness, logging or threads. Time and randomness come in as arguments.
my $core = qr{^(managerd/(raft|store|orchestrator|scheduler|dispatcher|ca|control|logs|allocator)|agentd/worker|agentd/netplan)/|^agentd/dns/(codec|answer)\.};
my %impure_common = map { ("common/$_.h" => 1) } qw(clock random log loop inbox worker rpc tls wire);
my %pure_system = map { ($_ => 1) } qw(assert.h ctype.h errno.h inttypes.h limits.h stdarg.h stdbool.h
    stddef.h stdint.h stdio.h stdlib.h string.h strings.h math.h endian.h arpa/inet.h uthash.h utlist.h protobuf-c/protobuf-c.h jansson.h);

my ($clean, $dirty, $bad) = (0, 0, 0);

sub finding {
    my ($file, $line, $text) = @_;
    print "$file:$line: $text\n";
    $bad++;
}

sub blank {
    my ($s) = @_;
    $s =~ s{(/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')}{
        my $t = $1;
        my $q = substr($t, 0, 1);
        $t =~ s/[^\n]/ /g;
        $t =~ s/^ /$q/, $t =~ s/ $/$q/ if $q ne '/';
        $t
    }gse;
    return $s;
}

sub check_layers {
    my ($file, $n, $inc, $system) = @_;
    if ($system) {
        finding($file, $n, "a pure core includes <$inc>")
            if $file =~ $core && !$pure_system{$inc};
        return;
    }
    return if $inc =~ m{^proto/} || $file =~ m{^test/};
    my ($from) = $file =~ m{^([^/]+)/};
    my ($to) = $inc =~ m{^([^/]+)/};
    if (!defined $to) {
        finding($file, $n, "\"$inc\" is not relative to the root");
    } elsif ($from eq 'common' && $to ne 'common') {
        finding($file, $n, "common/ uses only itself, not $inc");
    } elsif ($to ne 'common' && $to ne $from) {
        finding($file, $n, "$from does not use $to");
    } elsif ($file =~ $core) {
        my ($own) = $file =~ m{^(.*)/};
        my ($folder) = $inc =~ m{^(.*)/};
        finding($file, $n, "a pure core does not use $inc") if $impure_common{$inc};
        # Cores meet in the store, or in the agent's tables: these folders hold the contracts between them.
        finding($file, $n, "a pure core uses common/, its own folder, managerd/store and agentd/netplan, not $inc")
            if $folder ne $own && $to ne 'common' && $folder !~ m{^(managerd/store|agentd/netplan)$};
    }
}

sub check_includes {
    my ($file, $text) = @_;
    my @includes;
    my $n = 0;
    for (split /\n/, $text) {
        $n++;
        next unless /^\s*#\s*include\s*([<"])([^>"]+)[>"]/;
        check_layers($file, $n, $2, $1 eq '<');
        push @includes, [$n, $2, $1];
    }
    (my $own = $file) =~ s/\.c$/.h/;
    if ($file =~ /\.c$/ && -e $own && $file !~ m{^test/}) {
        finding($file, 1, "its own header, or its folder's internal.h, is included first")
            if !@includes || ($includes[0][1] ne $own && $includes[0][1] !~ /(^|_|\/)internal\.h$/);
    }
    # Sources that share a header, and tests, open with the header they belong to.
    shift @includes if @includes && $includes[0][2] eq '"';
    my $seen;
    for (@includes) {
        $seen = 1 if $_->[2] eq '"';
        finding($file, $_->[0], "<$_->[1]> after a project header: own, system, project") if $seen && $_->[2] eq '<';
    }
}

sub check_header {
    my ($file, @lines) = @_;
    (my $guard = "SKEP_\U$file") =~ s/[^A-Z0-9]/_/g;
    my $text = join "\n", @lines;
    finding($file, 1, "opens with a comment: idea, source, thread rule") if $lines[0] !~ m{^/\*};
    finding($file, 1, "guard is not $guard")
        if $text !~ /^#ifndef $guard\n#define $guard$/m || $lines[-1] !~ m{^#endif( /\* $guard \*/)?$};
}

# The tree is formatted: a function's body opens and closes in column 0.
sub check_functions {
    my ($file, @code) = @_;
    my $open;
    for my $i (0 .. $#code) {
        if ($code[$i] =~ /^\{/) {
            $open = $i;
            my $head = '';
            for (my $j = $i - 1; $j >= 0 && $code[$j] !~ /^\s*$|^#|[;}]\s*$/; $j--) { $head = "$code[$j] $head"; }
            check_parameters($file, $i, $head) if $head =~ /\)\s*$/;
        } elsif (defined $open && $code[$i] =~ /^\}/) {
            my $lines = $i - $open + 1;
            finding($file, $open + 1, "function of $lines lines, limit $limit{function_lines}")
                if $lines > $limit{function_lines} && $code[$i] =~ /^\}\s*$/;
            undef $open;
        }
    }
}

sub check_parameters {
    my ($file, $i, $head) = @_;
    return unless $head =~ /(\w+)\s*(\((?:[^()]|(?2))*\))\s*$/;
    my ($name, $list) = ($1, substr($2, 1, -1));
    return if $list =~ /^void \*ctx,/; # a callback has the signature that its caller wants
    1 while $list =~ s/\([^()]*\)//g;
    $list =~ s/,\s*struct err \*\w+\s*$//; # where the error goes is no argument
    $list =~ s/(\w+ \*\w+),\s*size_t \w+/$1/g; # bytes and their number are one thing
    my $count = () = $list =~ /,/g;
    finding($file, $i, "$name takes " . ($count + 1) . " parameters, limit $limit{parameters}")
        if $count + 1 > $limit{parameters};
}

sub check_calls {
    my ($file, @code) = @_;
    for my $i (0 .. $#code) {
        while ($code[$i] =~ /(?<![\w.>])(\w+)\s*\(/g) {
            my $call = $1;
            finding($file, $i + 1, "$call(): $banned{$call}") if $banned{$call};
            finding($file, $i + 1, "$call() belongs in $only{$call}")
                if $only{$call} && $only{$call} ne $file;
        }
        finding($file, $i + 1, "typedef struct") if $code[$i] =~ /\btypedef\s+struct\b/;
        finding($file, $i + 1, "a pure core has no static variable")
            if $file =~ $core && $code[$i] =~ /^\s*static\s+(?!const\b|inline\b)[^()]*(;|=)\s*/ && $code[$i] !~ /\bconst\b/;
    }
}

for my $file (@ARGV) {
    open my $fh, '<', $file or die "$file: $!\n";
    my $text = do { local $/; <$fh> };
    close $fh;
    my $before = $bad;
    my @lines = split /\n/, $text;
    my @code = split /\n/, blank($text);
    finding($file, 1, scalar(@lines) . " lines, limit $limit{file_lines}") if @lines > $limit{file_lines};
    finding($file, 1, "does not end with a newline") if $text !~ /\n\z/;
    check_includes($file, $text);
    check_header($file, @lines) if $file =~ /\.h$/;
    check_functions($file, @code);
    check_calls($file, @code);
    for my $i (0 .. $#lines) {
        finding($file, $i + 1, "mark left behind: $1")
            if $lines[$i] =~ /\b(TODO|FIXME|XXX|HACK)\b/;
    }
    finding($file, 1, "a test without an assertion")
        if $file =~ m{^test/unit/.*\.c$} && $text !~ /\bck_(assert|abort)/;
    $bad == $before ? $clean++ : $dirty++;
}
print "$clean passed, $dirty failed\n";
exit($dirty ? 1 : 0);
