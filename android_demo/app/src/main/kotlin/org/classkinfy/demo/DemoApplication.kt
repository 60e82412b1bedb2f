package org.classkinfy.demo

import android.app.Application

/** Holds what takes seconds to open, for all screens. */
internal class DemoApplication : Application() {
    val analyst: Analyst by lazy { Analyst(this) }
}
