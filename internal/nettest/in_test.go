package nettest

import "testing"

// Who reaches a published port, and whom the pod sees: the table of README.
func TestIn(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	web := l.pod("web", "22080:80", "22080:80/udp", "22100-22109:22100-22109", "22200-22209:300-309",
		hostIP+":22300:80", "127.0.0.1:22301:80", "["+hostIP6+"]:22302:80", "0.0.0.0:22303:80", "[::]:22304:80", "22305:81/udp")
	other := l.pod("other")
	for _, s := range []struct{ network, address string }{
		{"tcp", ":80"}, {"udp", web.at("80")}, {"udp", web.at6("80")}, {"tcp", ":22105"}, {"tcp", ":309"}, {"udp", web.at("81")},
	} {
		l.serve(web.node, s.network, s.address)
	}
	const gateway, gateway6 = "169.254.1.1", "fe80::1"
	for _, network := range []string{"tcp", "udp"} {
		for _, w := range []struct {
			from     *node
			to, seen string
		}{
			{client, hostIP, client.ip.String()},
			{client, hostIPOther, client.ip.String()},
			{client, "[" + hostIP6 + "]", client.ip6.String()},
			{l.router, hostIP, routerIP},
			{other.node, hostIP, other.ip.String()},
			{other.node, gateway, other.ip.String()},
			{other.node, "[" + hostIP6 + "]", other.ip6.String()},
			{l.host, hostIP, hostIP},
			{l.host, "[" + hostIP6 + "]", hostIP6},
			{l.host, "127.0.0.1", gateway},
			{l.host, "127.8.9.10", gateway},
			{web.node, hostIP, gateway},
			{web.node, gateway, gateway},
			{web.node, "[" + hostIP6 + "]", gateway6},
		} {
			l.reaches(w.from, network, w.to+":22080", "web sees "+w.seen)
		}
	}
	// Where answers to a UDP socket that listens at all addresses come from is up to
	// routing: a pod has one address.
	l.reaches(client, "udp", hostIP+":22305", "web sees "+client.ip.String())
	// Again and again: a redirect must not spoil the way back to oneself.
	for range 20 {
		l.reaches(web.node, "tcp", hostIP+":22080", "web sees "+gateway)
		l.reaches(web.node, "tcp", "["+hostIP6+"]:22080", "web sees "+gateway6)
	}

	sees, sees6 := "web sees "+client.ip.String(), "web sees "+client.ip6.String()
	for _, w := range []struct{ to, want string }{
		{hostIP + ":22105", sees},
		{"[" + hostIP6 + "]:22105", sees6},
		{hostIP + ":22104", refused},
		{hostIP + ":22110", refused},
		{hostIP + ":22209", sees},
		{"[" + hostIP6 + "]:22209", sees6},
		{hostIP + ":22208", refused},
		{hostIP + ":309", refused},
		{hostIP + ":22300", sees},
		{hostIPOther + ":22300", refused},
		{"[" + hostIP6 + "]:22300", refused},
		{hostIP + ":22301", refused},
		{"[" + hostIP6 + "]:22301", refused},
		{"[" + hostIP6 + "]:22302", sees6},
		{hostIP + ":22302", refused},
		{hostIP + ":22303", sees},
		{"[" + hostIP6 + "]:22303", refused},
		{"[" + hostIP6 + "]:22304", sees6},
		{hostIP + ":22304", refused},
		{hostIP + ":80", refused},
	} {
		l.reaches(client, "tcp", w.to, w.want)
	}
	l.reaches(l.host, "tcp", "127.0.0.1:22301", "web sees "+gateway)
	l.reaches(l.host, "tcp", "127.0.0.2:22301", refused)
	l.reaches(other.node, "tcp", gateway+":22301", refused)
	l.reaches(other.node, "tcp", gateway+":22300", refused)

	// What others serve elsewhere on the same port is theirs.
	l.serve(client, "tcp", ":22080")
	l.reaches(web.node, "tcp", client.at("22080"), "client sees "+hostIP)
	l.reaches(l.router, "tcp", client.at("22080"), "client sees 198.51.100.1")
	l.reaches(l.host, "tcp", client.at("22080"), "client sees "+hostIP)
}

// A port that is unpublished is closed at once, and the others go on.
func TestUnpublish(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	web := l.pod("web", "22080:80", "22081:80")
	l.serve(web.node, "tcp", ":80")
	sees := "web sees " + client.ip.String()
	stays := l.converse(client, hostIP+":22081", sees)
	l.reaches(client, "tcp", hostIP+":22080", sees)
	l.must(web.Unpublish(l.Context(), l.ports("22080:80")...))
	l.reaches(client, "tcp", hostIP+":22080", refused)
	l.reaches(client, "tcp", hostIP+":22081", sees)
	l.must(web.Publish(l.Context(), l.ports("22082:80")...))
	l.reaches(client, "tcp", hostIP+":22082", sees)
	l.must(stays.goesOn(patience))
}
