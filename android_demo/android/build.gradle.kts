plugins {
    alias(libs.plugins.android.library)
}

android {
    namespace = "org.classkinfy.android"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        minSdk = libs.versions.minSdk.get().toInt()
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    testOptions.unitTests.all { test ->
        // A bundle's folder and archive: -Pclasskinfy.bundle=FOLDER -Pclasskinfy.archive=FILE.
        for (name in listOf("classkinfy.bundle", "classkinfy.archive")) {
            test.systemProperty(name, providers.gradleProperty(name).getOrElse(""))
        }
    }
}

dependencies {
    api(project(":core"))
    testImplementation(project(":engine-ort"))
    testImplementation(libs.onnxruntime.jvm)
    testImplementation(libs.json)
    testImplementation(libs.junit)
}
